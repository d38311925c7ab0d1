#include "preload/complain.h"
#include "preload/supervised.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "preload/ask.h"
#include "preload/net.h"
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

namespace {

// By our own agent: below a net that is an outer tree's, its agent knows nothing of our policy.
bool by_our_agent(const wire::Token& token) noexcept {
  const trap::Secret ours = trap::secret_of(token), known = net_secret();
  return (under_net() && known.fifth == ours.fifth && known.sixth == ours.sixth) || trap::supervised(token);
}

bool self_is_go() noexcept {
  long fd = sys::call(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    fd = sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<const char*>(getauxval_of(AT_EXECFN)), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return true;  // what cannot be looked at is taken for it
  ProgramFile self;
  inspect_image(static_cast<int>(fd), self);
  sys::call(SYS_close, fd);
  return self.go;
}

// The agent has a line for it, and a field in its status.
void tell_no_net(const trap::Entered& failed) noexcept {
  note_no_net();
  wire::Message ask{};
  ask.kind = wire::Ask::no_net;
  ask.no_net = {static_cast<std::uint8_t>(failed.step), failed.error};
  Conversation talk;
  (void)talk.say(ask);
}

trap::Entered enter_here(bool go) noexcept {
  Conversation talk;
  wire::Token token;
  if (!talk.ok() || !agent_token(token)) return {trap::Step::agent, ENETDOWN, false};
  if (!go) {
    const Conversation other;
    if (const int error = other.ok() ? trap::seen_by_agent(other.fd(), token) : ENETDOWN; error != 0)
      return {trap::Step::unseen, error, false};
  }
  return trap::enter(talk.fd(), token, {go, false, inbound_possible()});
}

// A Go program's system calls do not pass libc. Where it cannot be supervised it gets no INET socket.
void supervise_go() noexcept {
  if (!enter_supervision("this Go program", true) && !trap::deny_network())
    complain("this Go program",
             "nothing keeps its connections from going around the proxy: the kernel refuses every filter");
}

}  // namespace

bool is_supervised() noexcept {
  wire::Token token;
  return agent_token(token) && by_our_agent(token);
}

bool enter_supervision(std::string_view program, bool go) noexcept {
  if (page() == nullptr) {
    complain(program, "its connections cannot be led through the proxy: no agent answers");
    return false;
  }
  if (is_supervised()) return true;
  const trap::Entered entered = enter_here(go);
  if (entered.step == trap::Step::entered) return true;
  complain(program, trap::explain(entered.step));
  return false;
}

void put_up_net() noexcept {
  if (self_is_go()) return supervise_go();
  if (net_is_decided()) return;
  const Page* known = page();
  if (known == nullptr) return;  // the first connect fails, and says why
  const PageNet wanted = known->net.load(std::memory_order_relaxed);
  if (wanted == PageNet::off) return note_no_net();
  wire::Token token;
  // Below the tree's net already, and the environment does not say so: it was cleaned, or made before.
  if (agent_token(token) && trap::supervised(token)) {
    const Conversation talk;
    return note_net(token, talk.ok() && trap::makes_sockets(talk.fd()));
  }
  trap::Entered entered{trap::Step::privileges, 0, false};
  if (known->setuid_direct == 0 || trap::spares_privileges()) entered = enter_here(false);
  if (entered.step == trap::Step::entered && agent_token(token)) return note_net(token, entered.births);
  tell_no_net(entered);
  if (wanted == PageNet::required && !trap::deny_network())
    complain("net: require", "the kernel refuses every seccomp filter: nothing keeps what passes the library by");
}

ExecFate fate_of(const ProgramFile& program) noexcept {
  if (program.kind == ProgramFile::Kind::unknown) return ExecFate::as_it_is;  // the kernel refuses it, or knows better
  // Not there: the kernel says so. Any other reason is one of ours only, and the program may run all the same.
  if (program.kind == ProgramFile::Kind::unreadable &&
      (program.error == ENOENT || program.error == ENOTDIR || program.error == ELOOP || program.error == ENAMETOOLONG))
    return ExecFate::as_it_is;
  // Go, too: put_up_net().
  const bool loads = program.kind == ProgramFile::Kind::dynamic && !program.privileged && !program.secure;
  const bool hidden = !library_is_visible();
  if (loads && !hidden) return ExecFate::as_it_is;
  // A filter that spares no privileges would start it without them.
  if (!program.privileged || trap::spares_privileges()) {
    if (is_supervised()) return hidden ? ExecFate::hidden : ExecFate::as_it_is;
    if (is_towpath(program)) return ExecFate::as_it_is;
    return hidden ? ExecFate::hidden : ExecFate::filter;
  }
  const Page* known = page();
  if (known != nullptr && known->setuid_direct != 0) return ExecFate::as_it_is;
  complain(program.path,
           "it is setuid, setgid or has file capabilities, so that its connections cannot be led through the "
           "proxy: it is not executed (setuid: direct in the configuration lets such programs run)");
  return ExecFate::refused;
}

}  // namespace towpath
