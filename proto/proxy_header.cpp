#include "proto/proxy_header.h"

#include <array>
#include <cstring>

#include "base/address_range.h"
#include "proto/ascii.h"

namespace towpath {

namespace {

constexpr std::string_view v1_begin = "PROXY ";
constexpr std::uint8_t v2_begin[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
constexpr std::size_t v2_fixed = 16;

ProxyHeader malformed(std::string_view reason) noexcept {
  ProxyHeader out;
  out.state = ProxyHeader::State::malformed;
  out.reason = reason;
  return out;
}

ProxyHeader whole(std::size_t size, const Endpoint& client = {}) noexcept {
  ProxyHeader out;
  out.state = ProxyHeader::State::whole;
  out.size = size;
  if (!is_no_client(client.address)) out.client = client;
  return out;
}

// Does `in` begin with `begin`, as far as it goes?
bool agrees(std::span<const std::byte> in, const void* begin, std::size_t size) noexcept {
  return std::memcmp(in.data(), begin, in.size() < size ? in.size() : size) == 0;
}

// ---- version 1

// Takes one word and the space behind it; the last word has none.
bool take_word(std::string_view& line, std::string_view& word, bool last) noexcept {
  std::size_t size = 0;
  while (size < line.size() && line[size] != ' ') ++size;
  word = {line.data(), size};
  if (size == 0 || (size == line.size()) != last) return false;
  line.remove_prefix(last ? size : size + 1);
  return true;
}

bool parse_port(std::string_view text, std::uint16_t& out) noexcept {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text[0] == '0')) return false;
  std::uint32_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return false;
    value = value * 10 + static_cast<std::uint32_t>(c - '0');
  }
  out = static_cast<std::uint16_t>(value);
  return value <= 65535;
}

bool parse_address(std::string_view text, bool v6, IpAddress& out) noexcept {
  bool colon = false;
  for (const char c : text) {
    if (c == '%') return false;
    colon = colon || c == ':';
  }
  out = IpAddress::parse(text);
  return static_cast<bool>(out) && colon == v6;
}

ProxyHeader read_line(std::string_view line, std::size_t size) noexcept {
  line.remove_prefix(v1_begin.size());
  constexpr std::string_view unknown = "UNKNOWN";
  if (line.size() >= unknown.size() && std::memcmp(line.data(), unknown.data(), unknown.size()) == 0 &&
      (line.size() == unknown.size() || line[unknown.size()] == ' '))
    return whole(size);
  std::string_view word, from, to, from_port, to_port;
  if (!take_word(line, word, false)) return malformed("no protocol");
  const bool v4 = word == "TCP4", v6 = word == "TCP6";
  if (!v4 && !v6) return malformed("protocol is none of TCP4, TCP6, UNKNOWN");
  if (!take_word(line, from, false) || !take_word(line, to, false) || !take_word(line, from_port, false) ||
      !take_word(line, to_port, true))
    return malformed("not five words with one space between them");
  Endpoint client, asked;
  if (!parse_address(from, v6, client.address) || !parse_address(to, v6, asked.address))
    return malformed("bad address");
  if (!parse_port(from_port, client.port) || !parse_port(to_port, asked.port)) return malformed("bad port");
  return whole(size, client);
}

ProxyHeader read_v1(std::span<const std::byte> in) noexcept {
  const std::string_view text{reinterpret_cast<const char*>(in.data()), in.size()};
  for (std::size_t i = 0; i < text.size() && i < ProxyHeader::longest_v1; ++i) {
    if (text[i] == '\n') return malformed("line ends without CR");
    if (text[i] != '\r') continue;
    if (i + 1 == ProxyHeader::longest_v1) break;
    if (i + 1 == text.size()) return {};
    if (text[i + 1] != '\n') return malformed("CR inside the line");
    return read_line({text.data(), i}, i + 2);
  }
  return text.size() < ProxyHeader::longest_v1 ? ProxyHeader{} : malformed("line is longer than 107 bytes");
}

// ---- version 2

std::uint8_t byte_at(std::span<const std::byte> in, std::size_t at) noexcept {
  return std::to_integer<std::uint8_t>(in[at]);
}

std::uint16_t u16_at(std::span<const std::byte> in, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(byte_at(in, at) << 8 | byte_at(in, at + 1));
}

// CRC32C (RFC 3720 appendix B.4), of the header with the four bytes at `hole` taken as zero.
std::uint32_t crc32c(std::span<const std::byte> in, std::size_t hole) noexcept {
  std::uint32_t crc = ~0u;
  for (std::size_t i = 0; i < in.size(); ++i) {
    crc ^= i >= hole && i < hole + 4 ? 0u : byte_at(in, i);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
  }
  return ~crc;
}

enum Tlv : std::uint8_t { tlv_authority = 2, tlv_crc32c = 3 };

// `header` is the whole header; TLVs fill it from `at` to its end. "" when all is well.
std::string_view read_tlvs(std::span<const std::byte> header, std::size_t at, ProxyHeader& out) noexcept {
  bool checked = false;
  while (at < header.size()) {
    if (header.size() - at < 3) return "stray bytes after the last TLV";
    const std::uint8_t type = byte_at(header, at);
    const std::size_t size = u16_at(header, at + 1);
    at += 3;
    if (header.size() - at < size) return "a TLV is longer than the header";
    if (type == tlv_authority) out.authority = {reinterpret_cast<const char*>(header.data()) + at, size};
    if (type == tlv_crc32c) {
      if (size != 4) return "a CRC32C of another length than 4";
      if (checked) return "two CRC32C";
      checked = true;
      const std::uint32_t sent = std::uint32_t{u16_at(header, at)} << 16 | u16_at(header, at + 2);
      if (sent != crc32c(header, at)) return "wrong CRC32C";
    }
    at += size;
  }
  return {};
}

IpAddress v4_at(std::span<const std::byte> in, std::size_t at) noexcept {
  return IpAddress::v4(std::uint32_t{u16_at(in, at)} << 16 | u16_at(in, at + 2));
}

IpAddress v6_at(std::span<const std::byte> in, std::size_t at) noexcept {
  std::array<std::uint8_t, 16> bytes;
  std::memcpy(bytes.data(), in.data() + at, bytes.size());
  return IpAddress::v6(bytes);
}

ProxyHeader read_v2(std::span<const std::byte> in) noexcept {
  if (in.size() < v2_fixed) return {};
  const unsigned version = byte_at(in, 12) >> 4, command = byte_at(in, 12) & 15;
  const unsigned family = byte_at(in, 13) >> 4, transport = byte_at(in, 13) & 15;
  const std::size_t payload = u16_at(in, 14), size = v2_fixed + payload;
  if (version != 2) return malformed("version is not 2");
  if (command > 1) return malformed("unknown command");
  if (payload > ProxyHeader::most_v2_payload) return malformed("longer than 4096 bytes");
  if (command == 1 && (family > 3 || transport > 2)) return malformed("unknown family or transport");
  const bool v4 = family == 1 && transport == 1, v6 = family == 2 && transport == 1;
  const std::size_t addresses = v4 ? 12 : v6 ? 36 : 0;
  if (command == 1 && payload < addresses) return malformed("too short for its addresses");
  if (in.size() < size) return {};
  // LOCAL: whatever follows is to be skipped. Other families name no TCP client.
  if (command == 0 || addresses == 0) return whole(size);
  Endpoint client;
  client.address = v4 ? v4_at(in, 16) : v6_at(in, 16);
  client.port = u16_at(in, v4 ? 24 : 48);
  ProxyHeader out = whole(size, client);
  const std::string_view wrong = read_tlvs({in.data(), size}, v2_fixed + addresses, out);
  return wrong.empty() ? out : malformed(wrong);
}

}  // namespace

Sniff sniff_proxy_header(std::span<const std::byte> in) noexcept {
  if (in.empty()) return Sniff::need_more;
  if (agrees(in, v1_begin.data(), v1_begin.size())) return in.size() < v1_begin.size() ? Sniff::need_more : Sniff::v1;
  if (agrees(in, v2_begin, sizeof v2_begin)) return in.size() < sizeof v2_begin ? Sniff::need_more : Sniff::v2;
  return Sniff::not_proxy;
}

ProxyHeader read_proxy_header(std::span<const std::byte> in) noexcept {
  switch (sniff_proxy_header(in)) {
    case Sniff::need_more: return {};
    case Sniff::v1: return read_v1(in);
    case Sniff::v2: return read_v2(in);
    case Sniff::not_proxy: break;
  }
  ProxyHeader out;
  out.state = ProxyHeader::State::absent;
  return out;
}

}  // namespace towpath
