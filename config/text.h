// Small text helpers of this folder. ASCII rules only: no locale is ever asked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace towpath {

[[nodiscard]] constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
[[nodiscard]] constexpr bool is_alpha(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
[[nodiscard]] constexpr bool is_control(char c) noexcept { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
[[nodiscard]] constexpr bool is_quote(char c) noexcept { return c == '"' || c == '\'' || c == '`'; }

[[nodiscard]] bool is_ascii(std::string_view text) noexcept;
[[nodiscard]] bool has_control(std::string_view text) noexcept;
[[nodiscard]] std::string lower_ascii(std::string_view text);

// Bytes of the blank that `text` starts with, 0 when it starts with none. Blanks are the white space of
// Unicode (in UTF-8), line ends included: a no-break space pasted from a web page is one, too.
[[nodiscard]] std::size_t blank_size(std::string_view text) noexcept;
[[nodiscard]] std::string_view trim(std::string_view text) noexcept;
// Entries between commas and blanks; empty ones are left out.
[[nodiscard]] std::vector<std::string_view> split_list(std::string_view text);

// Decimal digits only, no sign. nullopt above `most`.
[[nodiscard]] std::optional<std::uint32_t> parse_number(std::string_view text, std::uint32_t most) noexcept;
// 1 to 65535.
[[nodiscard]] std::optional<std::uint16_t> parse_port(std::string_view text) noexcept;

// For messages: control characters and bytes that are not UTF-8 escaped, long text cut, quotes around.
[[nodiscard]] std::string quoted(std::string_view text);
// The same for text that may hold a URL with a password: what stands before the last "@" is hidden.
[[nodiscard]] std::string quoted_masked(std::string_view text);
// Bytes of the well-formed UTF-8 character that `text` starts with; 0 when there is none.
[[nodiscard]] std::size_t utf8_size(std::string_view text) noexcept;

}  // namespace towpath
