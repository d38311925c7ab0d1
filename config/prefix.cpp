#include "config/prefix.h"

#include <algorithm>
#include <array>

#include "config/text.h"

namespace towpath {

namespace {

using Bytes = std::array<std::uint8_t, 16>;

// An IpAddress that is v4 may have been written as v4-mapped v6: give its sixteen bytes back.
Bytes sixteen_bytes(const IpAddress& address) noexcept {
  Bytes out{};
  const auto bytes = address.bytes();
  if (address.is_v4()) out[10] = out[11] = 0xff;
  std::copy(bytes.begin(), bytes.end(), out.end() - static_cast<std::ptrdiff_t>(bytes.size()));
  return out;
}

void mask(Bytes& bytes, unsigned bits) noexcept {
  for (unsigned i = 0; i < bytes.size(); ++i) {
    const unsigned kept = bits > 8 * i ? std::min(8u, bits - 8 * i) : 0;
    bytes[i] = static_cast<std::uint8_t>(bytes[i] & (0xff00u >> kept));
  }
}

}  // namespace

Prefix Prefix::of(const IpAddress& address) noexcept {
  return {address, static_cast<unsigned>(address.bytes().size() * 8)};
}

std::optional<Prefix> Prefix::parse(std::string_view text) noexcept {
  const std::size_t slash = text.find('/');
  if (slash == text.npos || text.substr(0, slash).find('%') != text.npos) return std::nullopt;
  const IpAddress address = IpAddress::parse(text.substr(0, slash));
  const bool written_as_v6 = text.substr(0, slash).find(':') != text.npos;
  const auto length = parse_number(text.substr(slash + 1), written_as_v6 ? 128 : 32);
  if (!address || !length) return std::nullopt;
  const unsigned bits = *length + (written_as_v6 ? 0 : 96);
  Bytes bytes = sixteen_bytes(address);
  mask(bytes, bits);
  // Mapped addresses are a v4 range only while the whole ::ffff:0:0/96 marker is inside the length.
  const IpAddress masked = IpAddress::v6(bytes);
  return Prefix{masked, masked.is_v4() ? bits - 96 : bits};
}

std::string text_of(const IpAddress& address) {
  char buffer[IpAddress::text_size];
  return std::string(address.format(buffer));
}

std::string Prefix::text() const { return text_of(address) + "/" + std::to_string(bits); }

}  // namespace towpath
