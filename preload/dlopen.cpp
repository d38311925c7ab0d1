// dlopen() and dlmopen(): libraries that would be bound past ours. Under the net nothing is changed: what they do is
// shown to the agent. Elsewhere RTLD_DEEPBIND is taken away, as sanitizers' runtimes do, so that a library's calls find
// our hooks before libc; a name space of its own has a libc of its own, of which one line tells.
#include <atomic>

#include <dlfcn.h>

#include "preload/complain.h"
#include "preload/net.h"
#include "preload/process.h"
#include "preload/real.h"
#include "preload/standalone.h"

using namespace towpath;

namespace {

constinit std::atomic<bool> told{false};

bool bound_past_us() noexcept { return active() && !under_net(); }

}  // namespace

// The loader looks for a library in places that its caller names (RUNPATH), and takes for the caller whose code it
// returns to: both functions end in a jump (-foptimize-sibling-calls), so that it is not us (test_net.py).
TOWPATH_EXPORT void* dlopen(const char* file, int flags) noexcept {
#ifdef RTLD_DEEPBIND
  if ((flags & RTLD_DEEPBIND) != 0 && bound_past_us()) flags &= ~RTLD_DEEPBIND;
#endif
  return real().dlopen(file, flags);
}

TOWPATH_EXPORT void* dlmopen(Lmid_t space, const char* file, int flags) noexcept {
  if (space != LM_ID_BASE && bound_past_us() && !told.exchange(true, std::memory_order_relaxed))
    complain(file != nullptr ? file : "dlmopen",
             "it is loaded with a libc of its own (dlmopen), and there is no net: its connections go around the proxy");
  return real().dlmopen(space, file, flags);
}
