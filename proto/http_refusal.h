// Why an HTTP proxy refused, as far as its answer tells: the status, and two header fields that carry the
// true cause more often than the status does. Pure functions over text of any quality.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "proto/bounded_text.h"

namespace towpath {

using OfferedSchemes = BoundedText<64>;

[[nodiscard]] Err cause_of_status(std::uint16_t status, bool login_sent) noexcept;

// X-Squid-Error: "ERR_CONNECT_FAIL 111", the number being the errno of Squid's own connect.
// Err::ok when it says nothing that we know better than the status.
[[nodiscard]] Err cause_of_squid_error(std::string_view value) noexcept;

// RFC 9209: the first `error` parameter of any list member; empty when there is none.
[[nodiscard]] std::string_view proxy_status_error(std::string_view value) noexcept;
// Err::ok for a token that says no more than the status.
[[nodiscard]] Err cause_of_proxy_status(std::string_view token) noexcept;

// Adds the scheme names of a Proxy-Authenticate value (RFC 9110 11.6.1), each once.
void add_offered_schemes(std::string_view value, OfferedSchemes& schemes) noexcept;

}  // namespace towpath
