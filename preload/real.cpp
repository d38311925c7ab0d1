#include "preload/real.h"

#include <atomic>

#include <dlfcn.h>

// glibc moved dlsym from libdl to libc in 2.34 under a new version: ask for the old one, which every glibc has.
#if defined(__x86_64__)
__asm__(".symver dlsym,dlsym@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver dlsym,dlsym@GLIBC_2.17");
#endif

namespace towpath {

namespace {

// Constant-initialised: another library's constructor may call a hook before ours has run.
constinit Real table{};
constinit std::atomic<bool> bound{false};

template <class F>
void bind(F& slot, const char* name) noexcept {
  slot = reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

const Real& real() noexcept {
  // Two threads may bind at the same time: both write the same pointers.
  if (!bound.load(std::memory_order_acquire)) {
#define HOOK(name) bind(table.name, #name);
#define HOOK_GLIBC(name) HOOK(name)
#define HOOK_LATE(name)
#include "preload/hooks.def"
#undef HOOK_LATE
#undef HOOK_GLIBC
#undef HOOK
    bind(table.pthread_setcanceltype, "pthread_setcanceltype");
    bound.store(true, std::memory_order_release);
  }
  return table;
}

void* libc_symbol(const char* name) noexcept { return dlsym(RTLD_DEFAULT, name); }

void* next_symbol(const char* name) noexcept { return dlsym(RTLD_NEXT, name); }

}  // namespace towpath
