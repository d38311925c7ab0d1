// The part of the published page (proto/page.h) that accept() needs: which listeners are managed, who is trusted, and
// which connections from this host are the agent's own.
//
// A connection of the agent comes from the very address that it goes to (so that every listener that can be reached
// there takes it), from a port that only the agent holds. Its door is announced before it connects:
//   bell     a call: a connection is ready, the accept that got the bell claims it from the agent
//   direct   the connection itself, on behalf of `client`
//   closing  being taken back: only the agent can tell whether the port is still its own
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/address_range.h"

namespace towpath {

inline constexpr std::uint32_t inbound_page_ranges = 512;
inline constexpr std::uint32_t inbound_page_ports = 65536;

// An address in shared memory: 0, 4 or 16 bytes, network order.
struct PlainAddress {
  std::uint8_t bytes[16];
  std::uint8_t size;

  void set(const IpAddress& from) noexcept {
    const auto source = from.bytes();
    std::memcpy(bytes, source.data(), source.size());
    size = static_cast<std::uint8_t>(source.size());
  }
  [[nodiscard]] IpAddress get() const noexcept {
    std::uint8_t copy[16];
    std::memcpy(copy, bytes, sizeof copy);
    if (size == 4)
      return IpAddress::v4(std::uint32_t{copy[0]} << 24 | std::uint32_t{copy[1]} << 16 | std::uint32_t{copy[2]} << 8 |
                           copy[3]);
    return size == 16 ? IpAddress::v6(copy) : IpAddress{};
  }
};

enum class DoorKind : std::uint32_t { none = 0, bell = 1, direct = 2, closing = 3 };

struct InboundDoor {
  std::atomic<DoorKind> kind;  // written last
  PlainAddress address;        // of both ends
  PlainAddress client, peer;   // direct: whom it is for, and who connected to us on his behalf
  std::uint16_t client_port, peer_port;
  std::uint8_t unused;
};
static_assert(sizeof(InboundDoor) == 64);

// What is to become of the connections of a listening port.
inline constexpr std::uint8_t inbound_proxy_optional = 1, inbound_proxy_require = 2, inbound_http = 4;
// The listener may leave connections to the kernel until they say something (TCP_DEFER_ACCEPT): nobody who is managed
// there waits for the server to speak first.
inline constexpr std::uint8_t inbound_defer = 8;
inline constexpr std::uint8_t inbound_listed = 128;  // in `port_rules`: the port has a rule of its own

struct InboundPage {
  std::atomic<std::uint32_t> on;     // 0: accept is untouched
  std::atomic<std::uint32_t> ready;  // connections that wait to be claimed
  std::uint32_t range_count;         // of `ranges`
  std::uint8_t default_rule;
  std::uint8_t by_port;            // some port has a rule of its own
  std::uint8_t all_are_questions;  // more ranges than fit: the agent decides
  AddressRange ranges[inbound_page_ranges];
  std::uint8_t port_rules[inbound_page_ports];
  InboundDoor doors[inbound_page_ports];  // by the agent's port
};

[[nodiscard]] inline std::uint8_t inbound_rule_of(const InboundPage& page, std::uint16_t port) noexcept {
  const std::uint8_t listed = page.port_rules[port];
  return (listed & inbound_listed) != 0 ? listed & ~inbound_listed : page.default_rule;
}

enum class AcceptStep : std::uint8_t {
  give,         // to the program as it is
  read_header,  // a PROXY header stands at its begin, must stand there, or may
  hand_over,    // the agent's: HTTP, or a question of trust that only the agent can answer
  bell,         // ask the agent: a call, or not its own after all
  direct,       // the agent's own on behalf of a client
};

// What an accepted connection is, by its addresses alone: the first step of every front end. `door` is set for
// `direct`.
[[nodiscard]] inline AcceptStep accept_step(const InboundPage& page, const Endpoint& peer, const Endpoint& local,
                                            const InboundDoor*& door) noexcept {
  if (peer.address == local.address) {
    const InboundDoor& at = page.doors[peer.port];
    const DoorKind kind = at.kind.load(std::memory_order_acquire);
    if (kind != DoorKind::none && at.address.get() == peer.address.without_scope()) {
      door = &at;
      return kind == DoorKind::direct ? AcceptStep::direct : AcceptStep::bell;
    }
  }
  const std::uint8_t rule = inbound_rule_of(page, local.port);
  if (rule == 0) return AcceptStep::give;
  if ((rule & inbound_http) != 0 || page.all_are_questions != 0) return AcceptStep::hand_over;
  return trusts({page.ranges, page.range_count}, peer.address) ? AcceptStep::read_header : AcceptStep::give;
}

}  // namespace towpath
