// What the kernel stops and shows to the agent: a seccomp filter with a listener, the net beneath the library. Below it
// a program's calls are carried whether they pass the library, libc or neither (static programs, Go, private copies of
// libc, bare instructions). It names system calls only; what becomes of each is agent/supervisor's business.
//
//   connect, getpeername, getsockopt(SO_ERROR)     the main job
//   epoll_ctl                                      a socket in a handshake must not look ready
//   sendto with an address, sendmsg, sendmmsg      datagrams: name servers, placeholder addresses
//   recvfrom with an address, recvmsg              not for Go: whose resolvers compare the source of an answer
//   socket, bind, listen, epoll_create             only with `births`
//   accept, accept4, getsockopt(SO_PEERNAME)       only with `inbound`
//   io_uring_setup                                 ENOSYS; fast open EOPNOTSUPP, as with net.ipv4.tcp_fastopen=0:
//                                                  programs fall back
//   foreign system calls (i386, x32)               those that make a connection are shown, and refused
//
// Everything else does not leave the kernel's own path. Neither do the library's own calls: they bear the tree's secret
// in the fifth and sixth argument register, which the kernel does not read for them (getsockopt: the sixth). A program
// cannot hold it by accident, but it could read it: the net is no jail.
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
  bool inbound = false;  // accept is managed (`reverseProxy`)

  [[nodiscard]] std::uint32_t bits() const noexcept {
    return (go ? 1u : 0u) | (births ? 2u : 0u) | (inbound ? 4u : 0u);
  }
  [[nodiscard]] static Flavour of(std::uint32_t bits) noexcept {
    return {(bits & 1u) != 0, (bits & 2u) != 0, (bits & 4u) != 0};
  }
  static constexpr std::uint32_t all_bits = 7;
};

inline constexpr std::size_t most_instructions = 160;

// What the library's own calls bear in spare argument registers. Made of the tree's token.
struct Secret {
  std::uint64_t fifth = 0, sixth = 0;
  [[nodiscard]] bool known() const noexcept { return fifth != 0 || sixth != 0; }
};

// The number of instructions; 0 when they do not fit (a mistake of ours). `secret` must be known.
[[nodiscard]] std::size_t build(std::span<sock_filter, most_instructions> out, const Flavour& flavour,
                                const Secret& secret) noexcept;

// The same for a filter without a listener that lets nobody make an INET socket, or a ring.
[[nodiscard]] std::size_t build_denial(std::span<sock_filter, most_instructions> out) noexcept;

// getpeername(probe_descriptor, probe_address, first half of the token): answered with probe_answer by the agent that
// supervises this process, with EBADF where none does, or another tree's.
inline constexpr int probe_descriptor = -0x7470;
inline constexpr std::uint64_t probe_address = 0x7470617770726f62;
inline constexpr int probe_answer = 0x7470;

}  // namespace towpath::trap
