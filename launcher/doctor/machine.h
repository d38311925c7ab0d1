// What this machine says about itself. Everything may be missing: in an empty root there is neither /proc nor /sys.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace towpath::doctor {

class Report;

struct Machine {
  std::string kernel;  // "6.1.0-18-amd64"
  unsigned major = 0, minor = 0;
  bool gvisor = false;
  bool proc = false;               // /proc is mounted and shows this process
  int ptrace_scope = -1;           // Yama; -1: not there, or cannot be read
  bool root = false;               // effective user id 0
  std::uint64_t capabilities = 0;  // effective
  int seccomp = -1;                // of this process: 0 none, 2 filtered; -1: unknown

  [[nodiscard]] bool capable(int capability) const noexcept { return (capabilities >> capability & 1) != 0; }
  [[nodiscard]] bool older_than(unsigned wanted_major, unsigned wanted_minor) const noexcept {
    return major < wanted_major || (major == wanted_major && minor < wanted_minor);
  }
};

// By what uname(2) says.
[[nodiscard]] bool is_gvisor(std::string_view release, std::string_view version) noexcept;
[[nodiscard]] Machine look_at_machine();
// The first lines of the report: kernel, privileges, limits.
void report_machine(const Machine& machine, Report& report);

}  // namespace towpath::doctor
