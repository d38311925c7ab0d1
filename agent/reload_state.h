// What became of attempts to take on another configuration, for `status`.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>

namespace towpath {

struct ReloadState {
  std::uint64_t applied = 0, failed = 0;  // unchanged ones count as neither
  std::time_t last_at = 0;                // seconds since 1970; 0: there was none
  bool last_applied = false;
  std::string last_problem;  // "" when the last one was applied
};

}  // namespace towpath
