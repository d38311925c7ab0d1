#include "launcher/doctor/machine.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "launcher/doctor/report.h"

namespace towpath::doctor {

namespace {

constexpr rlim_t few_descriptors = 4096;

// The first line, "" when there is none.
std::string line_of(const char* path) {
  std::ifstream file(path);
  std::string out;
  std::getline(file, out);
  return out;
}

std::string field_of_status(std::string_view name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name)) return line.substr(std::min(line.size(), line.find_first_not_of(" \t", name.size())));
  return {};
}

int number_of(const std::string& text) {
  int out = -1;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

std::string container() {
  if (std::getenv("KUBERNETES_SERVICE_HOST") != nullptr) return ", in Kubernetes";
  if (access("/.dockerenv", F_OK) == 0) return ", in a Docker container";
  if (access("/run/.containerenv", F_OK) == 0) return ", in a Podman container";
  return {};
}

void report_limits(Report& report) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const std::string most = limit.rlim_max == RLIM_INFINITY ? std::string("unlimited") : std::to_string(limit.rlim_max);
  std::string detail = most + " descriptors";
  const std::string memory = line_of("/sys/fs/cgroup/memory.max");
  if (!memory.empty() && memory != "max") detail += ", " + memory + " bytes of memory (cgroup)";
  const bool few = limit.rlim_max < few_descriptors;
  report.add("limits", few ? Result::warn : Result::ok, detail,
             few ? "raise the hard limit of open files (ulimit -Hn): a handshake, a TLS tunnel and a request in "
                   "absolute form take one or two each"
                 : "");
  const std::string watches = line_of("/proc/sys/fs/inotify/max_user_instances");
  if (watches == "0")
    report.add("inotify", Result::warn, "fs.inotify.max_user_instances is 0",
               "a changed configuration is noticed by SIGHUP only");
}

void report_network(Report& report) {
  const UniqueFd v6(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const std::string fast_open = line_of("/proc/sys/net/ipv4/tcp_fastopen");
  std::string detail = v6 ? "IPv4 and IPv6" : "IPv4 only";
  if (!fast_open.empty() && (number_of(fast_open) & 1) == 0)
    detail += "; TCP fast open is off: the program starts its blocking connects by itself, which works";
  report.add("network", Result::ok, detail);
}

}  // namespace

// gVisor names itself in its release since 2026 (google/gvisor#13016); before, and still, its version is a fixed date
// on which no Linux was built.
bool is_gvisor(std::string_view release, std::string_view version) noexcept {
  return release.find("gvisor") != release.npos || version.find("Sun Jan 10 15:06:54 PST 2016") != version.npos;
}

Machine look_at_machine() {
  Machine out;
  utsname name{};
  uname(&name);
  out.kernel = name.release;
  std::sscanf(name.release, "%u.%u", &out.major, &out.minor);
  out.gvisor = is_gvisor(name.release, name.version);
  out.proc = access("/proc/self/fd", X_OK) == 0;
  out.root = geteuid() == 0;
  if (const std::string scope = line_of("/proc/sys/kernel/yama/ptrace_scope"); !scope.empty())
    out.ptrace_scope = number_of(scope);
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (syscall(SYS_capget, &head, data) == 0)
    out.capabilities = data[0].effective | static_cast<std::uint64_t>(data[1].effective) << 32;
  if (const std::string mode = field_of_status("Seccomp:"); !mode.empty()) out.seccomp = number_of(mode);
  return out;
}

void report_machine(const Machine& machine, Report& report) {
  const std::string kernel = (machine.gvisor ? "gVisor, which calls itself Linux " : "Linux ") + machine.kernel;
  const std::string where = container();
  // google/gvisor#14627: SECCOMP_FILTER_FLAG_NEW_LISTENER is EINVAL.
  if (machine.gvisor)
    report.add(
        "kernel", Result::warn, kernel + where,
        "gVisor has no seccomp user notification: only dynamically linked programs can be served there; run this "
        "pod with the runtime runc (no runtimeClassName: gvisor) for static and Go programs");
  else if (machine.older_than(5, 9))
    report.add("kernel", Result::warn, kernel + where,
               "static and Go programs need Linux 5.9 or newer (5.19 for Go programs that signals must not disturb)");
  else report.add("kernel", Result::ok, kernel + where);
  if (machine.proc) report.add("/proc", Result::ok, "mounted");
  else
    report.add(
        "/proc", Result::warn, "not mounted, or hidden from this user",
        "the log names no programs, and where pidfd_getfd is refused static programs cannot be served: mount it");

  std::string detail = "uid " + std::to_string(geteuid());
  detail += machine.capable(CAP_SYS_ADMIN) ? ", CAP_SYS_ADMIN" : ", no CAP_SYS_ADMIN";
  detail += machine.capable(CAP_SYS_PTRACE) ? ", CAP_SYS_PTRACE" : ", no CAP_SYS_PTRACE";
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) detail += ", no_new_privs";
  // Of a user namespace the capabilities are those over its own, and nobody else may be one of its users.
  const std::string users = line_of("/proc/self/uid_map");
  if (!users.empty() && users.find("4294967295") == users.npos) detail += ", in a user namespace";
  if (machine.seccomp >= 0) detail += machine.seccomp == 0 ? ", no seccomp profile" : ", under a seccomp profile";
  report.add("privileges", Result::ok, detail);

  switch (machine.ptrace_scope) {
    case -1:
    case 0: break;
    case 1:
      report.add("yama", Result::ok,
                 "kernel.yama.ptrace_scope=1: enough for `towpath run`, whose agent is the program's ancestor; with "
                 "LD_PRELOAD alone, Go and static programs below need 0 or CAP_SYS_PTRACE");
      break;
    case 2:
      report.add(
          "yama", machine.capable(CAP_SYS_PTRACE) ? Result::ok : Result::warn,
          "kernel.yama.ptrace_scope=2: looking into programs takes CAP_SYS_PTRACE",
          machine.capable(CAP_SYS_PTRACE) ? "" : "set kernel.yama.ptrace_scope to 1, or give towpath CAP_SYS_PTRACE");
      break;
    default:
      report.add(
          "yama", Result::warn,
          "kernel.yama.ptrace_scope=" + std::to_string(machine.ptrace_scope) + ": nobody may look into a program",
          "set kernel.yama.ptrace_scope to 1 (takes a reboot: 3 cannot be lowered)");
  }
  report_limits(report);
  report_network(report);
}

}  // namespace towpath::doctor
