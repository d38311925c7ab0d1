#include "preload/process.h"

#include <cerrno>

#include <sys/mman.h>

#include "preload/ask.h"
#include "preload/real.h"
#include "preload/sys.h"

namespace towpath {

namespace {

constinit wire::Control parsed{};
constinit std::atomic<int> configured{-1};  // -1 not looked yet, 0 no, 1 yes
constinit std::atomic<const Page*> mapped{nullptr};
constinit std::atomic<bool> gated{false};

std::string_view environment(std::string_view name) noexcept {
  for (char** at = environ; at != nullptr && *at != nullptr; ++at) {
    std::string_view entry{*at};
    if (!entry.starts_with(name) || entry.size() == name.size() || entry[name.size()] != '=') continue;
    entry.remove_prefix(name.size() + 1);
    return entry;
  }
  return {};
}

// Looks as early as possible: a program may overwrite its environment later.
__attribute__((constructor)) void start() noexcept {
  real();
  control();
}

}  // namespace

const wire::Control* control() noexcept {
  int state = configured.load(std::memory_order_acquire);
  if (state < 0) {
    // Concurrent first calls write the same bytes.
    wire::Control found{};
    state = wire::parse_control(environment(wire::control_variable), found) ? 1 : 0;
    if (state == 1) parsed = found;
    configured.store(state, std::memory_order_release);
  }
  return state == 1 ? &parsed : nullptr;
}

const Page* mapped_page() noexcept { return mapped.load(std::memory_order_acquire); }

const Page* page() noexcept {
  if (const Page* known = mapped_page()) return known;
  if (control() == nullptr) return nullptr;
  const int fd = ask_for_page();
  if (fd < 0) return nullptr;
  const long at = sys::call(SYS_mmap, 0, sizeof(Page), PROT_READ, MAP_SHARED, fd, 0);
  sys::call(SYS_close, fd);
  if (at < 0 && at > -4096) return nullptr;
  const auto* fresh = reinterpret_cast<const Page*>(at);
  if (fresh->magic != page_magic || fresh->version != page_version) {
    sys::call(SYS_munmap, at, sizeof(Page));
    return nullptr;
  }
  const Page* expected = nullptr;
  if (!mapped.compare_exchange_strong(expected, fresh)) {
    sys::call(SYS_munmap, at, sizeof(Page));
    return expected;
  }
  return fresh;
}

void note_gated() noexcept { gated.store(true, std::memory_order_relaxed); }

bool anything_pending() noexcept {
  if (!gated.load(std::memory_order_relaxed)) return false;
  const Page* known = mapped_page();
  return known != nullptr && known->pending.load(std::memory_order_acquire) != 0;
}

std::uint64_t cookie_of(int fd) noexcept {
  constexpr int so_cookie = 57;  // Linux 4.12
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, so_cookie, &cookie, &size) == 0 ? cookie : 0;
}

const PageEntry* pending_socket(int fd) noexcept {
  if (!anything_pending()) return nullptr;
  const PageEntry* entry = find_socket(*mapped_page(), cookie_of(fd));
  return entry != nullptr && entry->state.load(std::memory_order_acquire) == SocketState::pending ? entry : nullptr;
}

bool readable(const void* from, std::size_t size) noexcept {
  // rt_sigprocmask with an impossible `how` copies eight bytes in and changes nothing: EINVAL or EFAULT.
  constexpr int impossible = 99;
  const auto probe = [](const char* at) {
    return sys::call(SYS_rt_sigprocmask, impossible, at, 0, 8) != -EFAULT;
  };
  const char* first = static_cast<const char*>(from);
  if (first == nullptr) return false;
  if (size < 8) return probe(first);
  return probe(first) && probe(first + size - 8);
}

}  // namespace towpath
