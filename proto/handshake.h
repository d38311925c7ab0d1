// What every handshake with a proxy looks like: bytes in, bytes out, no descriptor, no clock, no heap.
// The driver owns the socket, the deadline and the log.
//
//   while (machine.want() is send or receive)
//     send:    write to_send() (any part of it), then sent(n)
//     receive: show the bytes that have come to feed(), then take exactly `consumed` of them off the socket
//
// Promises, each of them a property test in tests/unit:
// - feed() never consumes a byte behind the last handshake byte: what follows is tunnel payload.
// - Splitting the input anywhere changes nothing.
// - All storage is inside the object and bounded.
// - peer_closed() always leads to `failed` or leaves `finished`.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"

namespace towpath {

enum class Want : std::uint8_t { send, receive, finished, failed };

struct Fed {
  std::size_t consumed;  // at most the size of the input
  Want next;
};

// Borrowed: must outlive the machine. Never part of error() or state_name().
struct ProxyLogin {
  std::string_view user;
  std::string_view password;
};

template <class M>
concept Handshake = requires(M m, const M c, std::span<const std::byte> in, std::size_t n) {
  { c.want() }
  noexcept->std::same_as<Want>;
  { c.to_send() }
  noexcept->std::same_as<std::span<const std::byte>>;
  { m.sent(n) }
  noexcept->std::same_as<Want>;
  { m.feed(in) }
  noexcept->std::same_as<Fed>;
  { m.peer_closed() }
  noexcept->std::same_as<Want>;
  { c.error() }
  noexcept->std::same_as<Error>;
  { c.state_name() }
  noexcept->std::same_as<std::string_view>;
};

}  // namespace towpath
