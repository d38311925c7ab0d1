// Addresses as values. An IpAddress is always canonical: ::ffff:10.1.2.3 is stored as 10.1.2.3,
// so that rules and tables never meet two spellings of one destination.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include <sys/socket.h>

namespace towpath {

class IpAddress {
 public:
  enum class Family : std::uint8_t { none, v4, v6 };
  static constexpr std::size_t text_size = 64;  // longest text with scope id, NUL included

  constexpr IpAddress() noexcept = default;
  [[nodiscard]] static IpAddress v4(std::uint32_t host_order) noexcept;
  // Sixteen bytes in network order; a v4-mapped address becomes v4.
  [[nodiscard]] static IpAddress v6(std::span<const std::uint8_t, 16> bytes, std::uint32_t scope = 0) noexcept;
  // Strict text form (no brackets; four decimal octets without leading zeros; scope id ignored).
  // Family::none when `text` is no address.
  [[nodiscard]] static IpAddress parse(std::string_view text) noexcept;

  [[nodiscard]] Family family() const noexcept { return family_; }
  [[nodiscard]] bool is_v4() const noexcept { return family_ == Family::v4; }
  [[nodiscard]] bool is_v6() const noexcept { return family_ == Family::v6; }
  explicit operator bool() const noexcept { return family_ != Family::none; }

  [[nodiscard]] bool is_loopback() const noexcept;         // 127/8, ::1
  [[nodiscard]] bool is_unspecified() const noexcept;      // 0.0.0.0, :: (Linux: this host)
  [[nodiscard]] bool is_link_local() const noexcept;       // 169.254/16 is NOT: only fe80::/10
  [[nodiscard]] std::uint32_t v4_number() const noexcept;  // host order; only when is_v4()
  [[nodiscard]] std::uint32_t scope() const noexcept { return scope_; }
  [[nodiscard]] IpAddress without_scope() const noexcept {
    IpAddress out = *this;
    out.scope_ = 0;
    return out;
  }
  // 4 bytes for v4, 16 for v6, none otherwise; network order.
  [[nodiscard]] std::span<const std::uint8_t> bytes() const noexcept;
  // True when the first `bits` bits equal those of `prefix` (same family only).
  [[nodiscard]] bool in_prefix(const IpAddress& prefix, unsigned bits) const noexcept;

  // Text into `out`, without NUL in the view; a scope id is not printed.
  std::string_view format(std::span<char, text_size> out) const noexcept;

  friend bool operator==(const IpAddress&, const IpAddress&) noexcept = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};  // v4: the first four
  std::uint32_t scope_ = 0;
  Family family_ = Family::none;
};

struct Endpoint {
  static constexpr std::size_t text_size = IpAddress::text_size + 8;

  IpAddress address;
  std::uint16_t port = 0;

  // Address family none when `address` is not INET or too short.
  [[nodiscard]] static Endpoint from(const sockaddr* address, socklen_t size) noexcept;
  // For a socket of domain `domain` (AF_INET or AF_INET6; v4 becomes v4-mapped in the latter).
  // 0 when the address cannot be expressed in that domain.
  socklen_t to(sockaddr_storage& out, int domain) const noexcept;
  [[nodiscard]] int native_domain() const noexcept { return address.is_v6() ? AF_INET6 : AF_INET; }

  // "10.0.0.1:80", "[2001:db8::1]:80"
  std::string_view format(std::span<char, text_size> out) const noexcept;

  friend bool operator==(const Endpoint&, const Endpoint&) noexcept = default;
};

}  // namespace towpath
