// Whether a target can be written into a request at all. The machines send it unescaped, so that this
// check is what keeps a program from writing header fields of its own through a host name.
#pragma once

#include "base/error.h"
#include "base/target.h"
#include "proto/ascii.h"
#include "proto/handshake.h"

namespace towpath {

constexpr std::size_t longest_name = 255;
constexpr std::size_t longest_login_part = 255;  // RFC 1929 section 2; the same limit serves HTTP Basic

[[nodiscard]] inline Err check_target(const TargetView& target) noexcept {
  if (target.name.empty()) return target.address ? Err::ok : Err::name_invalid;
  if (target.name.size() > longest_name) return Err::name_too_long;
  for (const char c : target.name)
    if (!is_graphic(c) || is_one_of(c, "\"#%/:<>?@[\\]^`{|}")) return Err::name_invalid;
  return Err::ok;
}

[[nodiscard]] inline Err check_login(const ProxyLogin* login) noexcept {
  if (login == nullptr) return Err::ok;
  const bool fits = login->user.size() <= longest_login_part && login->password.size() <= longest_login_part;
  return fits ? Err::ok : Err::bad_configuration;
}

}  // namespace towpath
