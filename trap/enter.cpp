#include "trap/enter.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/sys.h"

namespace towpath::trap {

namespace {

constexpr unsigned long wait_killable_recv = 1ul << 5;  // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19

// Docker's default profile refuses pidfd_getfd; every process may take its own descriptors otherwise.
bool can_take_descriptors(int some_descriptor) noexcept {
  const long self = sys::call(SYS_pidfd_open, sys::call(SYS_getpid), 0);
  if (self < 0) return false;
  const long taken = sys::call(SYS_pidfd_getfd, self, some_descriptor, 0);
  if (taken >= 0) sys::call(SYS_close, taken);
  sys::call(SYS_close, self);
  return taken >= 0;
}

long install(const Flavour& flavour, const Secret& secret) noexcept {
  sock_filter code[most_instructions];
  const std::size_t size = build(code, flavour, secret);
  const sock_fprog program{static_cast<unsigned short>(size), code};
  const unsigned long listener = SECCOMP_FILTER_FLAG_NEW_LISTENER;
  // Go preempts its threads by signals, each of which would restart a call that the agent is about to answer. Other
  // programs' signals end a connect that is held, as they end any other.
  unsigned long flags = flavour.go ? listener | wait_killable_recv : listener;
  long result = sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result == -EINVAL && flags != listener) {
    flags = listener;
    result = sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  }
  // With CAP_SYS_ADMIN it goes without, and setuid programs go on working.
  if (result != -EACCES) return result;
  if (const long error = sys::call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); error != 0) return error;
  result = sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result == -EINVAL && flags != listener)
    result = sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, listener, &program);
  return result;
}

constexpr int most_looked_at = 1024;  // an inherited listener has a low number

int option(int fd, int name) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &size) == 0 ? value : 0;
}

// What came with the program and listens at an IP address: where the agent cannot take it, it is handed over.
std::size_t find_listeners(std::span<int> out) noexcept {
  std::size_t found = 0;
  for (int fd = 0; fd < most_looked_at && found < out.size(); ++fd) {
    if (option(fd, SO_ACCEPTCONN) == 0) continue;
    const int domain = option(fd, SO_DOMAIN);
    if (domain == AF_INET || domain == AF_INET6) out[found++] = fd;
  }
  return found;
}

long send_with(int connection, std::span<const std::byte> packet, std::span<const int> descriptors,
               const Secret& secret) noexcept {
  iovec data{const_cast<std::byte*>(packet.data()), packet.size()};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int) * wire::max_descriptors)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size_bytes());
  long sent;
  do sent = sys::call(SYS_sendmsg, connection, &message, MSG_NOSIGNAL, 0, secret.fifth, secret.sixth);
  while (sent == -EINTR);
  return sent;
}

// The errno of the agent's answer, ENETDOWN where none comes.
int heard(int connection, std::span<std::byte, wire::max_message> room) noexcept {
  const timeval patience{10, 0};
  sys::call(SYS_setsockopt, connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  long got;
  do got = sys::call(SYS_recvfrom, connection, room.data(), room.size(), 0, 0, 0);
  while (got == -EINTR);
  wire::Reply reply;
  if (got <= 0 || !wire::decode({room.data(), static_cast<std::size_t>(got)}, reply)) return ENETDOWN;
  return reply.kind == wire::Answer::done ? reply.number : EPROTO;
}

}  // namespace

int connect_agent(std::string_view control_name) noexcept {
  sockaddr_un address{};
  if (control_name.empty() || control_name.size() > wire::max_control_name) return -EINVAL;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, control_name.data(), control_name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + control_name.size());
  const long low = sys::call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (low < 0) return static_cast<int>(low);
  const long fd = low < 3 ? sys::call(SYS_fcntl, low, F_DUPFD_CLOEXEC, 3) : low;
  if (fd != low) sys::call(SYS_close, low);
  if (fd < 0) return static_cast<int>(fd);
  long result;
  do result = sys::call(SYS_connect, fd, &address, size);
  while (result == -EINTR);
  if (result == 0) return static_cast<int>(fd);
  sys::call(SYS_close, fd);
  return static_cast<int>(result);
}

Secret secret_of(const wire::Token& token) noexcept {
  Secret out;
  static_assert(sizeof(wire::Token) == sizeof out);
  std::memcpy(&out, token.data(), sizeof out);
  return out;
}

Entered enter(int connection, const wire::Token& token, Flavour flavour) noexcept {
  flavour.births = !can_take_descriptors(connection);
  const Secret secret = secret_of(token);
  std::byte packet[wire::max_message];
  wire::Message ask{};
  ask.kind = wire::Ask::supervise;
  ask.token = token;
  ask.supervise_flavour = flavour.bits();
  const std::size_t size = wire::encode(packet, ask);
  int descriptors[wire::max_descriptors] = {};
  std::size_t count = 1;
  if (flavour.births && flavour.inbound) count += find_listeners(std::span(descriptors).subspan(1));
  const long listener = install(flavour, secret);
  if (listener == -EBUSY) return {Step::foreign_listener, EBUSY};
  if (listener < 0) return {Step::filter, static_cast<int>(-listener)};
  // From here on only calls that the filter lets pass: nobody answers what is shown yet.
  descriptors[0] = static_cast<int>(listener);
  const long sent = send_with(connection, {packet, size}, {descriptors, count}, secret);
  sys::call(SYS_close, listener);
  if (sent != static_cast<long>(size)) return {Step::agent, sent < 0 ? static_cast<int>(-sent) : EIO};
  const int error = heard(connection, packet);
  if (error != 0) return {Step::agent, error};
  return {Step::entered, 0, flavour.births};
}

int seen_by_agent(int connection, const wire::Token& token) noexcept {
  std::uint64_t half;
  std::memcpy(&half, token.data(), sizeof half);
  std::byte packet[wire::max_message];
  wire::Message ask{};
  ask.kind = wire::Ask::look;
  ask.token = token;
  ask.look.address = reinterpret_cast<std::uint64_t>(&half);
  const std::size_t size = wire::encode(packet, ask);
  const long sent = sys::call(SYS_sendto, connection, packet, size, MSG_NOSIGNAL, 0, 0);
  if (sent != static_cast<long>(size)) return ENETDOWN;
  return heard(connection, packet);
}

bool makes_sockets(int some_descriptor) noexcept { return !can_take_descriptors(some_descriptor); }

bool spares_privileges() noexcept {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  return sys::call(SYS_capget, &head, data) == 0 &&
         (data[CAP_SYS_ADMIN / 32].effective & 1u << CAP_SYS_ADMIN % 32) != 0;
}

bool deny_network() noexcept {
  sock_filter code[most_instructions];
  const std::size_t size = build_denial(code);
  const sock_fprog program{static_cast<unsigned short>(size), code};
  if (sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) return true;
  sys::call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

bool supervised(const wire::Token& token) noexcept {
  std::uint64_t half = 0;
  std::memcpy(&half, token.data(), sizeof half);
  return sys::call(SYS_getpeername, probe_descriptor, probe_address, half) == probe_answer;
}

std::string_view explain(Step step) noexcept {
  switch (step) {
    case Step::entered: return "it is supervised";
    case Step::foreign_listener:
      return "another supervisor's seccomp listener is on this process already, and the kernel allows one";
    case Step::filter: return "the kernel refuses a seccomp filter with a listener";
    case Step::privileges:
      return "setuid: direct is configured, and without CAP_SYS_ADMIN a seccomp filter would take the privileges of "
             "setuid programs away";
    case Step::agent: return "the agent did not take the seccomp listener";
    case Step::unseen:
      return "the agent may not look into the program (kernel.yama.ptrace_scope above 1, a seccomp profile, another "
             "user and no CAP_SYS_PTRACE, or /proc is not mounted)";
  }
  return "it cannot be supervised";
}

}  // namespace towpath::trap
