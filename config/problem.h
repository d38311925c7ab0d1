// One finding about the configuration, ready to be printed: where, what, and what to do about it.
// Never holds a password; text from outside is made printable before it gets in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace towpath {

struct Problem {
  enum class Severity : std::uint8_t { error, warning };

  Severity severity = Severity::error;
  std::string where;  // "values.yaml:14:9: coderd.proxy.ports[2]", "$http_proxy", "--http"
  std::string what;

  [[nodiscard]] std::string text() const { return where + ": " + what; }
};

[[nodiscard]] inline bool has_error(const std::vector<Problem>& problems) {
  for (const Problem& problem : problems)
    if (problem.severity == Problem::Severity::error) return true;
  return false;
}

}  // namespace towpath
