#include "preload/supervised.h"

#include <cerrno>

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "preload/ask.h"
#include "preload/process.h"
#include "preload/real.h"
#include "preload/standalone.h"

namespace towpath {

namespace {

// Of what the kernel handed to this process at its start.
unsigned long getauxval_of(unsigned long wanted) noexcept {
  using Getauxval = unsigned long (*)(unsigned long);
  static const auto function = reinterpret_cast<Getauxval>(libc_symbol("getauxval"));
  return function != nullptr ? function(wanted) : 0;
}

// With CAP_SYS_ADMIN a filter does not take a setuid program's privileges away.
bool may_filter_privileged() noexcept {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  return sys::call(SYS_capget, &head, data) == 0 &&
         (data[CAP_SYS_ADMIN / 32].effective & 1u << CAP_SYS_ADMIN % 32) != 0;
}

// Our own executable: what it starts is its own business, as the agent's connections are.
bool is_towpath(const ProgramFile& program) noexcept {
  struct stat wanted {
  }, own{};
  if (sys::call(SYS_newfstatat, AT_FDCWD, program.path, &wanted, 0) != 0) return false;
  AgentPaths paths;
  agent_paths(paths);
  for (const char* const* path = paths.list; *path != nullptr; ++path)
    if (sys::call(SYS_newfstatat, AT_FDCWD, *path, &own, 0) == 0 && own.st_dev == wanted.st_dev &&
        own.st_ino == wanted.st_ino)
      return true;
  return false;
}

// In a chroot the loader would not find it, warn, and go on without.
bool library_is_visible() noexcept {
  const std::string_view path = own_path();
  return !path.empty() && sys::call(SYS_faccessat, AT_FDCWD, path.data(), R_OK) == 0;
}

}  // namespace

bool is_supervised() noexcept {
  wire::Token token;
  return agent_token(token) && trap::supervised(token);
}

bool enter_supervision(std::string_view program, bool go) noexcept {
  if (is_supervised()) return true;
  const Page* known = page();
  Conversation talk;
  wire::Token token;
  if (known == nullptr || !talk.ok() || !agent_token(token)) {
    complain(program, "its connections cannot be led through the proxy: no agent answers");
    return false;
  }
  const trap::Entered entered = trap::enter(talk.fd(), token, {go, false, known->udp_blocked != 0, inbound_possible()});
  if (entered.step == trap::Step::entered) return true;
  complain(program, trap::explain(entered.step));
  return false;
}

void supervise_go() noexcept {
  long fd = sys::call(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    fd = sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<const char*>(getauxval_of(AT_EXECFN)), O_RDONLY | O_CLOEXEC);
  ProgramFile self;
  self.go = true;  // what cannot be looked at is taken for it
  if (fd >= 0) {
    inspect_image(static_cast<int>(fd), self);
    sys::call(SYS_close, fd);
  }
  if (!self.go) return;
  if (!enter_supervision("this Go program", true) && !trap::deny_network())
    complain("this Go program",
             "nothing keeps its connections from going around the proxy: the kernel refuses every filter");
}

ExecFate fate_of(const ProgramFile& program) noexcept {
  if (program.kind == ProgramFile::Kind::unknown) return ExecFate::as_it_is;  // the kernel refuses it, or knows better
  // Not there: the kernel says so. Any other reason is one of ours only, and the program may run all the same.
  if (program.kind == ProgramFile::Kind::unreadable &&
      (program.error == ENOENT || program.error == ENOTDIR || program.error == ELOOP || program.error == ENAMETOOLONG))
    return ExecFate::as_it_is;
  // Go, too: supervise_go().
  const bool loads = program.kind == ProgramFile::Kind::dynamic && !program.privileged && !program.secure;
  const bool hidden = !library_is_visible();
  if (loads && !hidden) return ExecFate::as_it_is;
  if (is_supervised()) return hidden ? ExecFate::hidden : ExecFate::as_it_is;
  if (is_towpath(program)) return ExecFate::as_it_is;
  if (!program.privileged || may_filter_privileged()) return hidden ? ExecFate::hidden : ExecFate::filter;
  const Page* known = page();
  if (known != nullptr && known->setuid_direct != 0) return ExecFate::as_it_is;
  complain(program.path,
           "it is setuid, setgid or has file capabilities, so that its connections cannot be led through the "
           "proxy: it is not executed (setuid: direct in the configuration lets such programs run)");
  return ExecFate::refused;
}

}  // namespace towpath
