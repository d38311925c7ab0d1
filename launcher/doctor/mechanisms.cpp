#include "launcher/doctor/mechanisms.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <limits.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/program_file.h"
#include "base/sys.h"
#include "launcher/doctor/experiment.h"
#include "launcher/doctor/machine.h"
#include "launcher/doctor/report.h"
#include "launcher/front_end.h"
#include "launcher/library.h"
#include "proto/wire.h"

namespace towpath::doctor {

namespace {

constexpr uid_t nobody = 65534;
constexpr unsigned long wait_killable_recv = 1ul << 5;  // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19

enum class State : unsigned char { works, fails, unknown };

std::string own_path() {
  char self[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", self, sizeof self);
  if (size > 0) return {self, static_cast<std::size_t>(size)};
  const auto* started = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  return started != nullptr ? started : "";
}

// A shell that the library can be loaded into; "" and why not.
std::string dynamic_shell(std::string& why) {
  why = "this image has no shell to try it with";
  for (const char* path : {"/bin/sh", "/bin/bash", "/bin/dash"}) {
    ProgramFile program;
    inspect_program(path, program);
    if (program.preloadable()) return path;
    if (program.kind == ProgramFile::Kind::static_binary) why = std::string(path) + " is statically linked";
  }
  return {};
}

State report_preload(const Machine& machine, Result if_broken, Report& report) {
  std::string why;
  const std::string library = find_library(why);
  if (library.empty()) {
    report.add("library", if_broken, why, "keep the two files together: one directory, or bin/ and lib/ side by side");
    return State::fails;
  }
  report.add("library", Result::ok, library + ": a shared object of this machine's kind, readable and executable");
  const std::string shell = dynamic_shell(why);
  if (!shell.empty() && !machine.proc) why = "/proc is not mounted";
  if (shell.empty() || !machine.proc) {
    report.add("preload", Result::skip, "not tried: " + why);
    return State::unknown;
  }
  const PreloadFindings found = try_preload(shell, library, own_path());
  if (found.asked) {
    report.add("preload", Result::ok, "loaded into " + shell + ", and its hooks ask the agent");
    return State::works;
  }
  const std::string said = found.error != 0     ? std::strerror(found.error)
                           : found.said.empty() ? "no hook was called within ten seconds"
                                                : found.said;
  report.add("preload", if_broken, "executed " + shell + " with it, and no hook answered: " + said,
             "is the image's libc older than glibc 2.28, or LD_PRELOAD forbidden there? `--mode seccomp` does without");
  return State::fails;
}

std::string step_text(int error) { return error == -1 ? "not reached" : std::strerror(error); }

// What to change when the kernel refuses the filter.
std::string filter_advice(const Findings& found, const Machine& machine) {
  if (found.step == trap::Step::foreign_listener)
    return "the kernel allows one such listener on a process: start towpath outside of the other supervisor (a "
           "sandbox, another towpath, a container runtime with a seccomp listener), or use dynamic programs";
  if (machine.gvisor) return "gVisor has no seccomp user notification: use the runtime runc";
  if (machine.older_than(5, 9)) return "this kernel is too old: Linux 5.9 or newer";
  if (found.filter == EINVAL || found.filter == ENOSYS)
    return "this kernel is built without seccomp filters (CONFIG_SECCOMP_FILTER), or is none of Linux's own";
  if (found.filter == ECONNRESET)
    return "a profile kills whoever calls seccomp(2): allow it (Docker's and containerd's default profiles do)";
  return "a profile refuses seccomp(2): allow it (Docker's and containerd's default profiles do)";
}

std::string look_advice(const Machine& machine, bool other_user) {
  if (machine.ptrace_scope >= 2)
    return machine.ptrace_scope == 2 ? "set kernel.yama.ptrace_scope to 1, or give towpath CAP_SYS_PTRACE"
                                     : "set kernel.yama.ptrace_scope to 1 and reboot";
  if (other_user) return "give towpath CAP_SYS_PTRACE, or run both as the same user";
  return "a seccomp or LSM profile (AppArmor, SELinux) refuses it: allow process_vm_readv and ptrace access to "
         "processes of its own";
}

// The steps of one experiment, the first that fails last. True: all that is needed works.
bool report_steps(const Findings& found, const Machine& machine, const std::string& who, bool other_user, Result broken,
                  Report& report) {
  if (found.error != 0) {
    report.add("supervise" + who, Result::skip, std::string("not tried: ") + std::strerror(found.error));
    return false;
  }
  if (found.filter != 0) {
    report.add("filter" + who, broken, std::string(trap::explain(found.step)) + ": " + step_text(found.filter),
               filter_advice(found, machine));
    return false;
  }
  report.add("filter" + who, Result::ok, "installed, and its listener handed over");
  if (found.notification != 0 && found.inject <= 0) {
    report.add("notification" + who, broken, "the program's connect() was not shown: " + step_text(found.notification),
               "a profile refuses the ioctls of seccomp listeners (SECCOMP_IOCTL_NOTIF_*): allow ioctl on them");
    return false;
  }
  if (found.notification == 0)
    report.add("notification" + who, Result::ok, "the program's connect() was stopped, shown and answered");
  if (found.inject == 0) report.add("inject" + who, Result::ok, "a descriptor was put into the program (ADDFD)");
  else
    report.add("inject" + who, broken, "no descriptor can be put into the program (ADDFD): " + step_text(found.inject),
               machine.older_than(5, 9) ? "Linux 5.9 or newer" : "a profile or the kernel refuses it");
  if (found.notification != 0) return false;  // its socket could not be made (births)
  if (found.memory == 0) report.add("memory" + who, Result::ok, "the program's memory can be read");
  else
    report.add("memory" + who, broken, "the program's memory cannot be read: " + step_text(found.memory),
               look_advice(machine, other_user));
  if (!found.births) {
    if (found.take == 0) report.add("pidfd_getfd" + who, Result::ok, "the program's socket was taken");
    else
      report.add("pidfd_getfd" + who, broken, "the program's socket cannot be taken: " + step_text(found.take),
                 look_advice(machine, other_user));
  } else if (found.descriptors == 0) {
    report.add("pidfd_getfd" + who, Result::ok,
               "refused here (as by Docker's default profile), and done without: the agent makes the sockets");
  } else {
    report.add("pidfd_getfd" + who, broken,
               "refused here, and /proc does not show the program's descriptors: " + step_text(found.descriptors),
               other_user ? look_advice(machine, true) : "mount /proc, or allow pidfd_getfd in the seccomp profile");
  }
  return found.works();
}

void report_niceties(const Findings& found, Report& report) {
  seccomp_notif_sizes sizes{};
  const bool has_sizes = sys::call(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == 0;
  const bool killable = knows_filter_flag(wait_killable_recv);
  std::string detail = std::string("wait-killable ") + (killable ? "yes" : "no") + ", synchronous wake-up " +
                       (found.wakes_sync ? "yes" : "no") + ", sizes " + (has_sizes ? "yes" : "no");
  report.add("nice to have", killable ? Result::ok : Result::warn, detail,
             killable ? "" : "Linux 5.19 or newer: Go's own signals restart calls that towpath is about to answer");
}

// A tree has one supervisor, and from inside it looks like a stranger's.
bool under_towpath() {
  const char* text = std::getenv(std::string(wire::control_variable).c_str());
  wire::Control control{};
  return text != nullptr && wire::parse_control(text, control) && trap::supervised(control.token);
}

State supervise(const Machine& machine, Result broken, std::string& unprivileged, Report& report) {
  if (under_towpath()) {
    report.add(
        "supervise", Result::ok,
        "this very process runs under towpath's supervisor, so it works; run `towpath doctor` outside of `towpath "
        "run` to see its parts");
    return State::works;
  }
  const uid_t user = geteuid();
  const Findings found = try_supervision(user, user);
  const State state = found.error != 0                                          ? State::unknown
                      : report_steps(found, machine, "", false, broken, report) ? State::works
                                                                                : State::fails;
  if (found.error != 0)
    report.add("supervise", broken, std::string("cannot be tried: ") + std::strerror(found.error),
               "is the limit of processes or descriptors reached?");
  if (state == State::works) report_niceties(found, report);
  if (state != State::works || !machine.capable(CAP_SETUID) || !machine.capable(CAP_SETGID)) return state;
  const Findings other = try_supervision(user, nobody);
  if (other.works())
    report.add("other user", Result::ok, "a program that runs as uid 65534 can be looked into and answered");
  else (void)report_steps(other, machine, ", other user", true, Result::warn, report);
  const Findings theirs = try_supervision(nobody, nobody);
  unprivileged = theirs.error != 0 ? "not tried" : theirs.works() ? "yes" : "no";
  if (theirs.works()) report.add("unprivileged", Result::ok, "all of it works as uid 65534, too");
  else (void)report_steps(theirs, machine, ", uid 65534", false, Result::warn, report);
  return state;
}

const char* word(State state) {
  return state == State::works ? "yes" : state == State::fails ? "NO" : "probably (not tried)";
}

}  // namespace

std::string report_mechanisms(const Machine& machine, const std::string& command, Report& report) {
  Result without_preload = Result::fail, without_seccomp = Result::fail;
  if (!command.empty()) {
    int error = 0;
    const std::string found = find_in_path(command, std::getenv("PATH"), error);
    const std::string& program = found.empty() ? command : found;
    ProgramFile file;
    inspect_program(program.c_str(), file);
    const Choice choice = choose_front_end(Mode::automatic, file);
    if (choice.front_end == FrontEnd::none) {
      report.add("program", Result::fail, choice.reason);
    } else {
      const bool by_library = choice.front_end == FrontEnd::preload;
      report.add("program", Result::ok,
                 program + (by_library ? " is dynamically linked: served by the library"
                            : file.go  ? " is a Go program: served by the seccomp supervisor"
                                       : " is statically linked: served by the seccomp supervisor"));
      (by_library ? without_seccomp : without_preload) = Result::warn;
    }
  }
  std::string unprivileged;
  const State preload = report_preload(machine, without_preload, report);
  const State seccomp = supervise(machine, without_seccomp, unprivileged, report);
  std::string summary = std::string("front ends here: preload (dynamic programs): ") + word(preload) +
                        "; seccomp (static and Go programs): " + word(seccomp) + " as uid " + std::to_string(geteuid());
  if (!unprivileged.empty()) summary += ", " + unprivileged + " as uid 65534";
  return summary;
}

}  // namespace towpath::doctor
