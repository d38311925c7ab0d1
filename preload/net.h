// The net beneath the library: the seccomp filter that every tree stands on (trap/filter.h). It shows the agent what
// reaches the kernel past our hooks. Our own calls of these kinds are made here, and nowhere else, with the tree's
// secret in registers that the kernel does not read, so that the net lets them pass.
//
// Each returns what the libc function returns, and sets errno. Those that may wait are cancellation points, as libc's.
#pragma once

#include <span>
#include <string_view>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "proto/wire.h"
#include "trap/filter.h"

namespace towpath {

// What our calls bear; unknown where no agent has told us. Without a net below it is ignored.
trap::Secret net_secret() noexcept;

// This process stands on a net, its own tree's or an outer one's: whatever it executes is carried.
bool under_net() noexcept;
// The same, and the agent makes the sockets (trap::Flavour::births): it must see direct connects too, to let go of
// them.
bool net_makes_sockets() noexcept;
// It is known whether this process stands on a net; false: nobody has put one up or tried to.
bool net_is_decided() noexcept;
// There is none, and what this process executes need not try.
void note_no_net() noexcept;
// From this process on, with this token.
void note_net(const wire::Token& token, bool births) noexcept;
// "TOWPATH_NET=..." for what this process executes; its size without the terminating zero, 0 while nothing is decided.
inline constexpr std::string_view net_variable = "TOWPATH_NET";
inline constexpr std::size_t most_net_text = net_variable.size() + 1 + 32 + 2 + 1;
std::size_t net_text(std::span<char, most_net_text> out) noexcept;

// The program's own connect, after it was judged: shown only where the agent must let go of the socket.
int connect_directly(int fd, const sockaddr* address, socklen_t size) noexcept;

namespace passing {

// A call that does not wait, and whose result is the kernel's: a value, or -errno.
template <class... Args>
long call(long number, Args... args) noexcept {
  static_assert(sizeof...(Args) <= 4, "the fifth and the sixth are the secret's");
  const trap::Secret secret = net_secret();
  long words[4] = {sys::word(args)...};
  return sys::raw(number, words[0], words[1], words[2], words[3], static_cast<long>(secret.fifth),
                  static_cast<long>(secret.sixth));
}

// For getsockopt without errno, which has one argument more: 0, or -errno.
inline long getsockopt_quietly(int fd, int level, int name, void* value, socklen_t* size) noexcept {
  return sys::call(SYS_getsockopt, fd, level, name, value, size, net_secret().sixth);
}

int connect(int fd, const sockaddr* address, socklen_t size) noexcept;
int accept4(int listener, sockaddr* address, socklen_t* size, int flags) noexcept;
int getpeername(int fd, sockaddr* address, socklen_t* size) noexcept;
int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept;
int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept;
ssize_t sendto(int fd, const void* from, size_t size, int flags, const sockaddr* to, socklen_t to_size) noexcept;
ssize_t sendmsg(int fd, const msghdr* message, int flags) noexcept;
int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept;
ssize_t recvfrom(int fd, void* to, size_t size, int flags, sockaddr* from, socklen_t* from_size) noexcept;
ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept;

}  // namespace passing

}  // namespace towpath
