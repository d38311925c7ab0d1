// Drives a handshake machine over plain bytes the way the agent drives it over a socket: the machine sees a
// window of what has come, and takes from it what it consumes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/handshake.h"

namespace towpath::testing {

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

struct Driven {
  Want want = Want::failed;
  Error error;
  std::size_t consumed = 0;
  std::vector<std::string> sends;
  const char* broken = nullptr;  // the promise of proto/handshake.h that was not kept

  friend bool operator==(const Driven&, const Driven&) = default;
};

// window_end(at): up to where the stream has come when the machine is about to read at `at`; more than `at`.
template <Handshake M, class WindowEnd>
Driven drive(M& machine, std::string_view stream, WindowEnd window_end) {
  Driven out;
  for (;;) {
    out.want = machine.want();
    if (out.want == Want::send) {
      const auto bytes = machine.to_send();
      if (bytes.empty()) out.broken = "wants to send nothing";
      out.sends.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      machine.sent(bytes.size());
    } else if (out.want == Want::receive && out.consumed < stream.size() && out.broken == nullptr) {
      const std::size_t size = window_end(out.consumed) - out.consumed;
      const Fed fed = machine.feed(as_bytes(stream.substr(out.consumed, size)));
      if (fed.consumed > size) out.broken = "consumed more than there was";
      if (fed.consumed < size && fed.next == Want::receive) out.broken = "left bytes and wants more";
      if (fed.next != machine.want()) out.broken = "Fed::next is not want()";
      out.consumed += fed.consumed;
    } else {
      break;
    }
    if (out.broken != nullptr) break;
  }
  out.error = machine.error();
  if ((out.want == Want::failed) != static_cast<bool>(out.error)) out.broken = "failed without an error, or not";
  if (out.want != Want::receive) {
    const Fed fed = machine.feed(as_bytes("HTTP/1.1 200 OK\r\n\r\n"));
    if (fed.consumed != 0 || fed.next != out.want) out.broken = "consumed after the end";
  }
  return out;
}

template <Handshake M>
Driven drive_whole(M& machine, std::string_view stream) {
  return drive(machine, stream, [&](std::size_t) { return stream.size(); });
}

template <Handshake M>
Driven drive_bytes(M& machine, std::string_view stream) {
  return drive(machine, stream, [](std::size_t at) { return at + 1; });
}

template <Handshake M>
Driven drive_cut(M& machine, std::string_view stream, std::size_t cut) {
  return drive(machine, stream, [&](std::size_t at) { return at < cut ? cut : stream.size(); });
}

}  // namespace towpath::testing
