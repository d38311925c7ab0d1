// RFC 4648 section 4, with padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace towpath {

constexpr std::size_t base64_size(std::size_t plain) noexcept { return (plain + 2) / 3 * 4; }

inline void put_base64(ByteWriter& out, std::string_view plain) noexcept {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < plain.size(); i += 3) {
    const std::size_t have = plain.size() - i;
    const auto byte = [&](std::size_t k) -> std::uint32_t {
      return k < have ? static_cast<unsigned char>(plain[i + k]) : 0;
    };
    const std::uint32_t group = byte(0) << 16 | byte(1) << 8 | byte(2);
    out.put(digits[group >> 18]);
    out.put(digits[group >> 12 & 63]);
    out.put(have > 1 ? digits[group >> 6 & 63] : '=');
    out.put(have > 2 ? digits[group & 63] : '=');
  }
}

}  // namespace towpath
