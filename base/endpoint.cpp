#include "base/endpoint.h"

#include <charconv>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>

namespace towpath {

namespace {
constexpr std::uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
}

IpAddress IpAddress::v4(std::uint32_t host_order) noexcept {
  IpAddress out;
  out.family_ = Family::v4;
  const std::uint32_t network = htonl(host_order);
  std::memcpy(out.bytes_.data(), &network, 4);
  return out;
}

IpAddress IpAddress::v6(std::span<const std::uint8_t, 16> bytes, std::uint32_t scope) noexcept {
  IpAddress out;
  if (std::memcmp(bytes.data(), mapped_prefix, sizeof mapped_prefix) == 0) {
    out.family_ = Family::v4;
    std::memcpy(out.bytes_.data(), bytes.data() + 12, 4);
    return out;
  }
  out.family_ = Family::v6;
  out.scope_ = scope;
  std::memcpy(out.bytes_.data(), bytes.data(), 16);
  return out;
}

IpAddress IpAddress::parse(std::string_view text) noexcept {
  char copy[text_size];
  if (const auto scope = text.find('%'); scope != text.npos) {
    if (text.find(':') == text.npos) return {};
    text.remove_suffix(text.size() - scope);
  }
  if (text.empty() || text.size() >= sizeof copy) return {};
  std::memcpy(copy, text.data(), text.size());
  copy[text.size()] = '\0';
  if (std::memchr(copy, '\0', text.size()) != nullptr) return {};
  std::uint8_t bytes[16];
  if (text.find(':') != text.npos) {
    if (inet_pton(AF_INET6, copy, bytes) != 1) return {};
    return v6(bytes);
  }
  // glibc's inet_pton refuses leading zeros, musl's does not: refuse here.
  bool at_start = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (at_start && text[i] == '0' && i + 1 < text.size() && text[i + 1] != '.') return {};
    at_start = text[i] == '.';
  }
  if (inet_pton(AF_INET, copy, bytes) != 1) return {};
  std::uint32_t number;
  std::memcpy(&number, bytes, 4);
  return v4(ntohl(number));
}

bool IpAddress::is_loopback() const noexcept {
  if (is_v4()) return bytes_[0] == 127;
  return is_v6() && std::memcmp(bytes_.data(), &in6addr_loopback, 16) == 0;
}

bool IpAddress::is_unspecified() const noexcept {
  if (family_ == Family::none) return false;
  return bytes_ == std::array<std::uint8_t, 16>{};
}

bool IpAddress::is_link_local() const noexcept { return is_v6() && bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80; }

std::uint32_t IpAddress::v4_number() const noexcept {
  std::uint32_t network;
  std::memcpy(&network, bytes_.data(), 4);
  return ntohl(network);
}

std::span<const std::uint8_t> IpAddress::bytes() const noexcept {
  const std::size_t size = is_v4() ? 4 : is_v6() ? 16 : 0;
  return {bytes_.data(), size};
}

bool IpAddress::in_prefix(const IpAddress& prefix, unsigned bits) const noexcept {
  if (family_ != prefix.family_ || family_ == Family::none || bits > bytes().size() * 8) return false;
  const unsigned whole = bits / 8, rest = bits % 8;
  if (std::memcmp(bytes_.data(), prefix.bytes_.data(), whole) != 0) return false;
  if (rest == 0) return true;
  const unsigned mask = 0xffu << (8 - rest) & 0xffu;
  return (bytes_[whole] & mask) == (prefix.bytes_[whole] & mask);
}

std::string_view IpAddress::format(std::span<char, text_size> out) const noexcept {
  if (family_ == Family::none ||
      inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), out.data(), text_size) == nullptr)
    return "none";
  return {out.data()};
}

Endpoint Endpoint::from(const sockaddr* address, socklen_t size) noexcept {
  if (address == nullptr || size < sizeof(sa_family_t)) return {};
  sa_family_t family;
  std::memcpy(&family, address, sizeof family);
  if (family == AF_INET && size >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    std::memcpy(&in, address, sizeof in);
    return {IpAddress::v4(ntohl(in.sin_addr.s_addr)), ntohs(in.sin_port)};
  }
  // Linux takes an AF_INET6 address without the scope id (24 bytes).
  if (family == AF_INET6 && size >= 24) {
    sockaddr_in6 in{};
    std::memcpy(&in, address, size < sizeof in ? size : sizeof in);
    return {IpAddress::v6(in.sin6_addr.s6_addr, in.sin6_scope_id), ntohs(in.sin6_port)};
  }
  return {};
}

socklen_t Endpoint::to(sockaddr_storage& out, int domain) const noexcept {
  std::memset(&out, 0, sizeof out);
  if (domain == AF_INET && address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, address.bytes().data(), 4);
    std::memcpy(&out, &in, sizeof in);
    return sizeof in;
  }
  if (domain != AF_INET6 || !address) return 0;
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(port);
  in.sin6_scope_id = address.scope();
  if (address.is_v6()) {
    std::memcpy(&in.sin6_addr, address.bytes().data(), 16);
  } else {
    std::memcpy(in.sin6_addr.s6_addr, mapped_prefix, 12);
    std::memcpy(in.sin6_addr.s6_addr + 12, address.bytes().data(), 4);
  }
  std::memcpy(&out, &in, sizeof in);
  return sizeof in;
}

std::string_view Endpoint::format(std::span<char, text_size> out) const noexcept {
  char host[IpAddress::text_size];
  const std::string_view text = address.format(host);
  char* at = out.data();
  if (address.is_v6()) *at++ = '[';
  std::memcpy(at, text.data(), text.size());
  at += text.size();
  if (address.is_v6()) *at++ = ']';
  *at++ = ':';
  at = std::to_chars(at, out.data() + out.size(), port).ptr;
  return {out.data(), static_cast<std::size_t>(at - out.data())};
}

}  // namespace towpath
