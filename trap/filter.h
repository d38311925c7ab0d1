// What the kernel stops and shows to the agent when a program's calls do not go through libc (static and Go programs):
// a seccomp filter with a listener. It names system calls only; what becomes of each is agent/supervisor's business.
//
//   connect, getpeername, getsockopt(SO_ERROR)     the main job
//   epoll_ctl                                      a socket in a handshake must not look ready
//   sendto with an address                         datagrams: name servers, synthetic addresses
//   sendmsg, sendmmsg                              only with `datagrams`: their address lies behind a pointer
//   recvfrom with an address, recvmsg              not for Go: whose resolvers compare the source of an answer
//   socket, bind, listen, epoll_create             only with `births`
//   accept, accept4, getsockopt(SO_PEERNAME)       only with `inbound`
//   io_uring_setup                                 ENOSYS; fast open EOPNOTSUPP, as with net.ipv4.tcp_fastopen=0:
//                                                  programs fall back
//   foreign system calls (i386, x32)               those that make a connection are shown, and refused
//
// Everything else does not leave the kernel's own path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <linux/filter.h>

namespace towpath::trap {

// What a filter stops depends on what was known when it was installed; it stays so for the whole tree below.
struct Flavour {
  bool go = false;      // a Go program: signals preempt its threads; its resolver does not look where answers come from
  bool births = false;  // pidfd_getfd is refused here: the agent makes the sockets and epoll sets itself
  bool datagrams = false;  // `udp: block`: every way of sending counts
  bool inbound = false;    // accept is managed (`reverseProxy`)

  [[nodiscard]] std::uint32_t bits() const noexcept {
    return (go ? 1u : 0u) | (births ? 2u : 0u) | (datagrams ? 4u : 0u) | (inbound ? 8u : 0u);
  }
  [[nodiscard]] static Flavour of(std::uint32_t bits) noexcept {
    return {(bits & 1u) != 0, (bits & 2u) != 0, (bits & 4u) != 0, (bits & 8u) != 0};
  }
  static constexpr std::uint32_t all_bits = 15;
};

inline constexpr std::size_t most_instructions = 160;

// The number of instructions; 0 when they do not fit (a mistake of ours).
[[nodiscard]] std::size_t build(std::span<sock_filter, most_instructions> out, const Flavour& flavour) noexcept;

// The same for a filter without a listener that lets nobody make an INET socket, or a ring.
[[nodiscard]] std::size_t build_denial(std::span<sock_filter, most_instructions> out) noexcept;

// Flags that a message bears which hands the listener to the agent, so that a filter that stops sendmsg lets it pass. A
// datagram sent so would not be routed beyond its own link.
inline constexpr int hand_over_flags = 0x4 | 0x80 | 0x4000;  // MSG_DONTROUTE | MSG_EOR | MSG_NOSIGNAL

// getpeername(probe_descriptor, probe_address, first half of the token): answered with probe_answer by the agent that
// supervises this process, with EBADF where none does, or another tree's.
inline constexpr int probe_descriptor = -0x7470;
inline constexpr std::uint64_t probe_address = 0x7470617770726f62;
inline constexpr int probe_answer = 0x7470;

}  // namespace towpath::trap
