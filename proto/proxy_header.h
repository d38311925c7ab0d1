// The PROXY protocol header, versions 1 and 2, as a receiver reads it (HAProxy's doc/proxy-protocol.txt, 2.1 and 2.2).
//
// A function over what has come so far, without state: the caller peeks at the socket, and takes from it exactly `size`
// bytes when the header is whole; what follows is the program's. The answer for the begin of a stream never changes
// with more bytes, except from `incomplete` to something else.
//
// Strict: one space between words, no sign, no leading zero, no zone; families must match their addresses; TLVs must
// fill the declared length exactly; a CRC32C is verified. No heap, no socket, no clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/endpoint.h"

namespace towpath {

// What the first bytes of a stream may be.
enum class Sniff : std::uint8_t { not_proxy, need_more, v1, v2 };
[[nodiscard]] Sniff sniff_proxy_header(std::span<const std::byte> in) noexcept;

struct ProxyHeader {
  static constexpr std::size_t longest_v1 = 107;        // CR LF included
  static constexpr std::size_t most_v2_payload = 4096;  // of what the length field may say; judged before it has come
  static constexpr std::size_t longest = 16 + most_v2_payload;

  enum class State : std::uint8_t {
    incomplete,  // the begin of a header, or nothing yet
    absent,      // something else: no byte of it is ours
    whole,
    malformed,  // the connection must be closed
  };
  State state = State::incomplete;
  std::size_t size = 0;        // whole: how many bytes are the header
  Endpoint client;             // whole: no address when the header names none that could be a client's (LOCAL, UNKNOWN,
                               // other families, multicast ...): the socket's own peer is right then
  std::string_view authority;  // whole, version 2: TLV 2 (the name a TLS client asked for); points into the input
  std::string_view reason;     // malformed: in a word or two
};

[[nodiscard]] ProxyHeader read_proxy_header(std::span<const std::byte> in) noexcept;

}  // namespace towpath
