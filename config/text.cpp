#include "config/text.h"

#include <algorithm>
#include <array>

namespace towpath {

bool is_ascii(std::string_view text) noexcept {
  return std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; });
}

bool has_control(std::string_view text) noexcept { return std::any_of(text.begin(), text.end(), is_control); }

std::string lower_ascii(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

std::size_t blank_size(std::string_view text) noexcept {
  if (text.empty()) return 0;
  if (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r')) return 1;
  if ((text[0] & 0x80) == 0) return 0;
  static constexpr std::array<std::string_view, 19> wide = {
      "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81", "\xe2\x80\x82", "\xe2\x80\x83",
      "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a",
      "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
  for (const std::string_view blank : wide)
    if (text.starts_with(blank)) return blank.size();
  return 0;
}

std::string_view trim(std::string_view text) noexcept {
  while (const std::size_t blank = blank_size(text)) text.remove_prefix(blank);
  for (std::size_t size = 1; size <= std::min<std::size_t>(3, text.size());) {
    if (blank_size(text.substr(text.size() - size)) == size) {
      text.remove_suffix(size);
      size = 1;
    } else {
      ++size;
    }
  }
  return text;
}

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> out;
  std::size_t start = 0, at = 0;
  while (at <= text.size()) {
    const std::size_t skip = at == text.size() || text[at] == ',' ? 1 : blank_size(text.substr(at));
    if (skip == 0) {
      ++at;
      continue;
    }
    if (at > start) out.push_back(text.substr(start, at - start));
    start = at += skip;
  }
  return out;
}

std::optional<std::uint32_t> parse_number(std::string_view text, std::uint32_t most) noexcept {
  if (text.empty()) return std::nullopt;
  std::uint64_t number = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    number = number * 10 + static_cast<unsigned>(c - '0');
    if (number > most) return std::nullopt;
  }
  return static_cast<std::uint32_t>(number);
}

std::optional<std::uint16_t> parse_port(std::string_view text) noexcept {
  const auto number = parse_number(text, 65535);
  if (!number || *number == 0) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

std::size_t utf8_size(std::string_view text) noexcept {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t size = lead >= 0xc2 && lead < 0xe0   ? 2
                           : lead >= 0xe0 && lead < 0xf0 ? 3
                           : lead >= 0xf0 && lead < 0xf5 ? 4
                                                         : 0;
  if (size == 0 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte (RFC 3629, 4).
  const unsigned second = byte(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return 0;
  return size;
}

std::string quoted(std::string_view text) {
  constexpr std::size_t most = 100;
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    if (out.size() > most) return out + "\"...";
    const std::size_t size = utf8_size(text);
    if (size == 0 || is_control(text[0])) {
      const auto byte = static_cast<unsigned char>(text[0]);
      out += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
      text.remove_prefix(1);
      continue;
    }
    out += text.substr(0, size);
    text.remove_prefix(size);
  }
  return out + "\"";
}

std::string quoted_masked(std::string_view text) {
  const std::size_t at = text.rfind('@');
  return at == text.npos ? quoted(text) : quoted("***" + std::string(text.substr(at)));
}

}  // namespace towpath
