// What a program's process and its agent say to each other.
//
// Transport: SOCK_SEQPACKET, one connection per ask; one message is one packet. Descriptors travel beside it.
// Both halves ship together: the version must be equal, there is no negotiation.
// Everything that arrives is hostile until decode() has looked at it: sizes, enumerators, counts, text.
//
//   ask                      descriptors         answers
//   hello                    -                   page (with the page's descriptor and the token)
//   connect                  socket, epoll sets  direct | refuse | pending | instead | dial ... | done
//     dialled                -                   (continues `dial`: the program connected by itself)
//     detach                 -                   none: the caller was interrupted, the attempt goes on as if
//     non-blocking
//   epoll                    epoll set           done (errno as epoll_ctl's) | native
//   closing                  -                   done
//   watch                    -                   done, when one of the sockets is decided
//   name                     -                   own | synthetic (+ candidates) | refuse
//   learn                    -                   done
//   reverse                  -                   name | own
//   datagram                 socket              direct | instead | muted | refuse
//   query                    -                   message | refuse
//   supervise                listener, inherited done
//                            listening sockets
//   clients                  -                   page (with the descriptor of the table of clients)
//   sweep                    -                   done: entries of closed sockets have left the table of clients
//   hold                     connection          none: the agent keeps it and makes it ready, or closes it
//   claim                    -                   accepted (with a connection) ... took | done (nothing) | own (no bell)
//   status                   -                   done: with the descriptor of a sealed memfd (the text), or an errno
//
// An agent that was started by a preloaded library (agent/standalone) tells the token to processes of its own user:
// they come with none. `status` needs none of its own user and of root. Anything else wants the right token.
//
// A connection that ends without `detach` means that the asker is gone: what it waited for is cancelled.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/endpoint.h"

namespace towpath::wire {

inline constexpr std::uint32_t magic = 0x41505754;  // "TWPA"
inline constexpr std::uint16_t version = 5;
inline constexpr std::size_t max_message = 4096;
inline constexpr std::size_t max_registrations = 8;
inline constexpr std::size_t max_descriptors = 1 + max_registrations;
inline constexpr std::size_t max_name = 255;
inline constexpr std::size_t max_watched = 128;
inline constexpr std::size_t max_learnt = 32;
inline constexpr std::size_t max_candidates = 8;
inline constexpr std::size_t max_query = 3840;  // a DNS message beside the rest

using Token = std::array<std::uint8_t, 16>;  // the right to ask

enum class Ask : std::uint8_t {
  hello,
  connect,
  dialled,
  detach,
  epoll,
  closing,
  watch,
  name,
  learn,
  reverse,
  datagram,
  query,
  supervise,
  clients,
  sweep,
  hold,
  claim,
  took,
  status,
  no_net,
  look
};
inline constexpr std::uint8_t ask_count = 21;

//   instead   connect or send to `endpoint`, which stands for what was asked for; the kernel's result is the program's
//   muted     the socket may be connected to that address, nothing may be sent
//   accepted  a connection whose client is `endpoint`; it stays the agent's until `took` has come
enum class Answer : std::uint8_t {
  page,
  direct,
  refuse,
  pending,
  dial,
  done,
  native,
  own,
  synthetic,
  name,
  instead,
  muted,
  message,
  accepted
};
inline constexpr std::uint8_t answer_count = 14;

struct Registration {
  std::int32_t fd;     // the socket's number in the program
  std::int32_t epoll;  // the epoll set's number in the program; its descriptor travels along
  std::uint32_t events;
  std::uint32_t unused;
  std::uint64_t data;
};

struct ConnectAsk {
  Endpoint target;
  std::uint64_t cookie;
  std::int32_t fd;      // the socket's number in the program
  std::int32_t domain;  // AF_INET or AF_INET6
  bool blocking;
  bool v6_only;
  std::uint8_t registration_count;
  std::array<Registration, max_registrations> registrations;
};

struct EpollAsk {
  std::uint64_t cookie;
  std::int32_t operation;  // EPOLL_CTL_*
  Registration registration;
};

struct ClosingAsk {
  std::uint64_t cookie;
  std::int32_t fd;  // -1: the socket stays, and was taken off its peer
};

struct WatchAsk {
  std::uint16_t count;
  std::array<std::uint64_t, max_watched> cookies;
};

struct NameAsk {
  std::int32_t family;  // AF_UNSPEC, AF_INET, AF_INET6
  std::string_view name;
};

struct LearnAsk {
  std::string_view name;
  std::uint8_t count;
  std::array<IpAddress, max_learnt> addresses;
};

// A datagram socket that connects (`connects`) or sends to an address.
struct DatagramAsk {
  Endpoint target;
  std::uint64_t cookie;
  std::int32_t domain;
  bool connects;
};

// Connections that a listener of the program received. `listener` is its SO_COOKIE.
struct HoldAsk {
  std::uint64_t listener;
};
// `bell`: the other end of a connection that may be the agent's call to come and fetch one; no address: whatever is
// ready for that listener.
struct ClaimAsk {
  std::uint64_t listener;
  Endpoint bell;
};

// How the agent is to tell of itself. `pid`: only if this process is the agent's own, or one that it serves (else
// ESRCH); 0: in any case.
enum class StatusFormat : std::uint8_t { text, json, prometheus };
inline constexpr std::uint8_t status_format_count = 3;
struct StatusAsk {
  StatusFormat format;
  std::int32_t pid;
};

// A tree that stands on no net, and why.
struct NoNetAsk {
  std::uint8_t step;   // trap::Step
  std::int32_t error;  // errno
};

// May the agent look into the asker, as it must for what the net shows? `address`: where the asker has half of the
// token.
struct LookAsk {
  std::uint64_t address;
};

struct Message {  // a decoded ask; views point into the packet
  Ask kind;
  Token token;
  ConnectAsk connect;
  EpollAsk epoll;
  ClosingAsk closing;
  WatchAsk watch;
  NameAsk name;
  LearnAsk learn;
  IpAddress reverse;
  DatagramAsk datagram;
  std::span<const std::byte> query;  // one DNS question as it would stand in a packet
  std::int32_t dialled_errno;
  std::uint32_t supervise_flavour;  // trap::Flavour of the filter whose listener comes along
  HoldAsk hold;
  ClaimAsk claim;
  StatusAsk status;
  NoNetAsk no_net;
  LookAsk look;
};

// The number of bytes, 0 when it does not fit (a caller's mistake).
[[nodiscard]] std::size_t encode(std::span<std::byte> out, const Message& ask) noexcept;
// False for anything that is not exactly one well-formed ask.
[[nodiscard]] bool decode(std::span<const std::byte> in, Message& out) noexcept;

struct Reply {
  Answer kind = Answer::refuse;
  std::int32_t number = 0;             // errno for refuse and done
  std::uint64_t page = 0;              // which page this agent publishes: another one than before means another agent
  Token token{};                       // page: the right to ask, for a process that came without one
  Endpoint endpoint;                   // dial, instead, accepted
  Endpoint peer;                       // accepted: who connected, where a program has no room for the client
  IpAddress v4, v6;                    // synthetic
  std::string_view name;               // name
  std::span<const std::byte> message;  // message: the answer to a query
  std::uint8_t candidate_count = 0;
  std::array<std::string_view, max_candidates> candidates;  // synthetic: ask the own resolver for these first, in order
};

[[nodiscard]] std::size_t encode(std::span<std::byte> out, const Reply& reply) noexcept;
[[nodiscard]] bool decode(std::span<const std::byte> in, Reply& out) noexcept;

// Equal or not, in a time that does not depend on where they differ.
[[nodiscard]] bool same(const Token& a, const Token& b) noexcept;

// "CONTROL:TOKEN", with ":in" behind it when accept() is to be managed, as it stands in the environment variable: the
// abstract socket name (graphic ASCII without ':', at most 90 bytes) and 32 hexadecimal digits.
inline constexpr std::size_t max_control_name = 90;
inline constexpr std::string_view control_variable = "TOWPATH_CONTROL";
struct Control {
  char name[max_control_name];
  std::uint8_t name_size = 0;
  Token token{};
  bool inbound = false;
};
[[nodiscard]] bool parse_control(std::string_view text, Control& out) noexcept;

}  // namespace towpath::wire
