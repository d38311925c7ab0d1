// The part of the published page (proto/page.h) that accept() needs: which listeners are managed, who is trusted, and
// which connections from this host are the agent's own.
//
// The rules can be replaced while programs read them. There are two places for them: the agent writes into the one that
// is not in use and then says so. A reader that slept over two such changes, and may have seen half of each, reads
// again.
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

struct InboundRules {
  std::uint32_t range_count;  // of `ranges`
  std::uint8_t default_rule;
  std::uint8_t by_port;            // some port has a rule of its own
  std::uint8_t all_are_questions;  // more ranges than fit: the agent decides
  AddressRange ranges[inbound_page_ranges];
  std::uint8_t port_rules[inbound_page_ports];

  [[nodiscard]] std::uint8_t of(std::uint16_t port) const noexcept {
    const std::uint8_t listed = port_rules[port];
    return (listed & inbound_listed) != 0 ? listed & ~inbound_listed : default_rule;
  }
  [[nodiscard]] bool trust(const IpAddress& peer) const noexcept {
    // A count that is being written is any number; what was read with it does not count.
    return trusts({ranges, range_count < inbound_page_ranges ? range_count : inbound_page_ranges}, peer);
  }
};

struct InboundPage {
  std::atomic<std::uint32_t> on;     // 0: accept is untouched
  std::atomic<std::uint32_t> ready;  // connections that wait to be claimed
  // Generations of the rules; generation N stands in rules[N % 2], and is not read any more once N + 2 has begun.
  std::atomic<std::uint32_t> rules_begun, rules_current;
  InboundRules rules[2];
  InboundDoor doors[inbound_page_ports];  // by the agent's port
};

// read(rules) over one generation, whole; `read` may be called several times and only its last result counts.
template <class Read>
[[nodiscard]] auto read_inbound_rules(const InboundPage& page, Read read) noexcept {
  for (;;) {
    const std::uint32_t generation = page.rules_current.load(std::memory_order_acquire);
    const auto out = read(page.rules[generation % 2]);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (page.rules_begun.load(std::memory_order_relaxed) - generation < 2) return out;
  }
}

// The only writer; `write` fills in rules that are all zero.
template <class Write>
void write_inbound_rules(InboundPage& page, Write write) noexcept {
  // One that was begun by an agent that died is begun once more, in the same place.
  const std::uint32_t next = page.rules_current.load(std::memory_order_relaxed) + 1;
  page.rules_begun.store(next, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  InboundRules& rules = page.rules[next % 2];
  std::memset(static_cast<void*>(&rules), 0, sizeof rules);
  write(rules);
  page.rules_current.store(next, std::memory_order_release);
}

[[nodiscard]] inline std::uint8_t inbound_rule_of(const InboundPage& page, std::uint16_t port) noexcept {
  return read_inbound_rules(page, [&](const InboundRules& rules) noexcept { return rules.of(port); });
}

enum class AcceptStep : std::uint8_t {
  give,         // to the program as it is
  read_header,  // a PROXY header stands at its begin, must stand there, or may
  hand_over,    // the agent's: HTTP, or a question of trust that only the agent can answer
  bell,         // ask the agent: a call, or not its own after all
  direct,       // the agent's own on behalf of a client
};

struct AcceptDecision {
  AcceptStep step;
  std::uint8_t rule;  // of the listener's port, from the same generation of rules
};

// What an accepted connection is, by its addresses alone: the first step of every front end. `door` is set for
// `direct`.
[[nodiscard]] inline AcceptDecision accept_step(const InboundPage& page, const Endpoint& peer, const Endpoint& local,
                                                const InboundDoor*& door) noexcept {
  if (peer.address == local.address) {
    const InboundDoor& at = page.doors[peer.port];
    const DoorKind kind = at.kind.load(std::memory_order_acquire);
    if (kind != DoorKind::none && at.address.get() == peer.address.without_scope()) {
      door = &at;
      return {kind == DoorKind::direct ? AcceptStep::direct : AcceptStep::bell, inbound_rule_of(page, local.port)};
    }
  }
  return read_inbound_rules(page, [&](const InboundRules& rules) noexcept -> AcceptDecision {
    const std::uint8_t rule = rules.of(local.port);
    if (rule == 0) return {AcceptStep::give, rule};
    if ((rule & inbound_http) != 0 || rules.all_are_questions != 0) return {AcceptStep::hand_over, rule};
    return {rules.trust(peer.address) ? AcceptStep::read_header : AcceptStep::give, rule};
  });
}

}  // namespace towpath
