// Asking the agent about names. What libc's resolver answers and what the agent answers meet here.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/endpoint.h"
#include "proto/wire.h"

namespace towpath {

struct NameAnswer {
  enum class Kind : std::uint8_t { own, synthetic, refused } kind = Kind::own;
  bool unusable = false;  // refused for good: nothing that could be asked for; otherwise another try may help
  IpAddress v4, v6;
  std::uint8_t candidate_count = 0;
  char candidates[wire::max_candidates][wire::max_name + 1];
};

// Who answers for this name: the program's own resolver (`own`), the agent (`synthetic`), nobody (`refused`: it is no
// name, or the agent is gone and a lookup could leak).
void ask_name(const char* name, int family, NameAnswer& out) noexcept;

// How far the program's own resolver is asked for the candidates of one answer, each of which may fail.
class CandidateSearch {
 public:
  explicit CandidateSearch(int family) noexcept;
  enum class Next : std::uint8_t { go_on, give_up, no_such_family };
  // `again`: no answer, or none of use; `no_data`: the name may have addresses of another family. Then the name is not
  // the proxy's (no_such_family). A silent name server is not waited for once more (give_up), as in libc's own search.
  [[nodiscard]] Next after(const char* candidate, bool again, bool no_data) const noexcept;

 private:
  int family_;
  std::int64_t began_ms_;
};

// The program's own resolver found these: a later connect to one of them is judged by the name, too.
void learn_name(const char* name, std::span<const IpAddress> addresses) noexcept;

// The name that a synthetic address stands for, into `out` with a NUL; false for any other address.
bool name_of_synthetic(const IpAddress& address, std::span<char, wire::max_name + 1> out) noexcept;

// `localhost`, whatever libc takes for a number, and the empty name never need the agent.
bool needs_no_answer(const char* name) noexcept;

}  // namespace towpath
