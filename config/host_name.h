// Host names in the one form that everything here compares: ACE, lower case, no trailing dot.
#pragma once

#include <string>
#include <string_view>

namespace towpath {

// ACE, lower case, one trailing dot removed. "" when `name` cannot be a host name: empty, an empty label,
// over 253 bytes, or anything but letters, digits, "-", "_" and dots. Underscores are fine (SRV owners,
// compose services); so are names that look like half an address ("127.1"): to a resolver they are names.
[[nodiscard]] std::string normalise_name(std::string_view name);

// True when the last label is a number: such a name is never in the DNS (RFC 1123, 2.1), somebody
// mistyped an address.
[[nodiscard]] bool ends_in_number(std::string_view name) noexcept;

}  // namespace towpath
