// An address range. The address is stored masked; 10.1.2.3/8 and 10.0.0.0/8 are one range.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/endpoint.h"

namespace towpath {

struct Prefix {
  IpAddress address;
  unsigned bits = 0;

  // The range that holds just `address`.
  [[nodiscard]] static Prefix of(const IpAddress& address) noexcept;
  // "10.0.0.0/8", "2001:db8::/32"; an IPv4 range may be written in mapped form (::ffff:10.0.0.0/104).
  // Nothing for dotted masks, brackets, scope ids or a length that does not fit.
  [[nodiscard]] static std::optional<Prefix> parse(std::string_view text) noexcept;

  [[nodiscard]] bool contains(const IpAddress& other) const noexcept { return other.in_prefix(address, bits); }
  [[nodiscard]] std::string text() const;

  friend bool operator==(const Prefix&, const Prefix&) noexcept = default;
};

[[nodiscard]] std::string text_of(const IpAddress& address);

}  // namespace towpath
