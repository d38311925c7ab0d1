// Characters as the protocols see them, whatever the locale of the program is.
#pragma once

#include <string_view>

namespace towpath {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_blank(char c) noexcept { return c == ' ' || c == '\t'; }
constexpr bool is_graphic(char c) noexcept { return c > ' ' && c <= '~'; }
constexpr char to_lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

// Not string_view's own find, contains or starts_with: those can refer to the C++ runtime library.
constexpr bool is_one_of(char c, std::string_view set) noexcept {
  for (const char member : set)
    if (c == member) return true;
  return false;
}

// RFC 9110 5.6.2
constexpr bool is_token_char(char c) noexcept { return is_graphic(c) && !is_one_of(c, "\"(),/:;<=>?@[\\]{}"); }

}  // namespace towpath
