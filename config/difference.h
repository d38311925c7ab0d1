// What differs between two policies, in words for the log. Never shows a password.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/policy.h"

namespace towpath {

// One entry per key: "proxy.udp: allow -> block", "proxy.exempt: added a.example, b.example; removed c.example".
// Empty: no connection is treated in another way. `source` does not count.
[[nodiscard]] std::vector<std::string> differences(const Policy& before, const Policy& after);

// Equal for policies without differences, within one build: two processes tell by it whether they have read the same.
[[nodiscard]] std::uint64_t fingerprint(const Policy& policy);

}  // namespace towpath
