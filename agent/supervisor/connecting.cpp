// connect() of supervised programs.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/attempt.h"
#include "agent/supervisor/supervisor.h"

namespace towpath {

namespace {

constexpr std::uint16_t dns_port = 53;

bool is_nonblocking(int fd) noexcept { return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

bool is_v6_only(int fd, int domain) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return domain == AF_INET6 && getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &size) == 0 && value != 0;
}

bool has_peer(int fd) noexcept {
  sockaddr_storage peer;
  socklen_t size = sizeof peer;
  return getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
}

std::uint64_t network_of(int fd) noexcept {
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

// A datagram socket that talks to itself alone: whoever else sends to it is refused by the kernel.
UniqueFd make_silence(int domain, Endpoint& where) {
  UniqueFd fd(socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address;
  const Endpoint any{domain == AF_INET ? IpAddress::v4(INADDR_LOOPBACK) : IpAddress::parse("::1"), 0};
  socklen_t size = any.to(address, domain);
  auto* at = reinterpret_cast<sockaddr*>(&address);
  if (!fd || ::bind(fd.get(), at, size) != 0 || ::getsockname(fd.get(), at, &size) != 0) return {};
  if (::connect(fd.get(), at, size) != 0) return {};
  where = Endpoint::from(at, size);
  return fd;
}

}  // namespace

void Supervisor::connect(const Notice& notice) {
  Target socket;
  const std::uint64_t size = notice.data.args[2] & 0xffffffff;
  sockaddr_storage address{};
  switch (look(notice, notice.descriptor(0), socket)) {
    case Look::inet: break;
    case Look::stranger:
      // Not made under our eyes: a UNIX domain socket, nearly always.
      if (size < sizeof(sa_family_t) || size > sizeof address ||
          read_memory(notice.tid, notice.data.args[1], &address, size) != 0 ||
          (address.ss_family != AF_INET && address.ss_family != AF_INET6))
        return notice.go_on();
      return refuse(notice, "this socket is older than the program, or was passed to it, and cannot be tunnelled here",
                    "allow pidfd_getfd in the container's seccomp profile, or let the program make the socket itself");
    default: return;
  }
  if (size < sizeof(sa_family_t) || size > sizeof address) return notice.fail(EINVAL);
  if (const int error = read_memory(notice.tid, notice.data.args[1], &address, size); error != 0)
    return error == EFAULT ? notice.fail(EFAULT)
                           : refuse(notice, "towpath may not read this program's memory",
                                    "give towpath CAP_SYS_PTRACE, or run both as the same user");
  if (!notice.valid()) return notice.fail(EINTR);  // the descriptor and the memory may be somebody else's
  note_process(notice.tid);
  if (!socket.fd) {
    // A tunnel that stands: its copy was let go. The program may end it, and cannot have another on that socket.
    if (address.ss_family != AF_UNSPEC) return notice.fail(EISCONN);
    births_.forget(socket_inode(notice.tid, notice.descriptor(0)));
    return notice.go_on();
  }
  const auto* judged = reinterpret_cast<const sockaddr*>(&address);
  if (address.ss_family == AF_UNSPEC) {
    if (Attempt* attempt = parts_.judge.find(socket.cookie)) attempt->abandon();
    const int error = ::connect(socket.fd.get(), judged, static_cast<socklen_t>(size)) == 0 ? 0 : errno;
    parts_.page.forget(socket.cookie);
    return notice.done(error);
  }
  const Endpoint target = Endpoint::from(judged, static_cast<socklen_t>(size));
  if (socket.type == SOCK_DGRAM && target.address) return connect_datagram(notice, std::move(socket), target);
  if (socket.type != SOCK_STREAM && socket.type != SOCK_RAW && socket.type != SOCK_DGRAM)
    return refuse(notice, "a connection of this type of socket cannot be led through the proxy",
                  "let the program use TCP");
  // For a stream a mismatch is an error that the kernel words best, and so is everything about raw sockets.
  if (socket.type != SOCK_STREAM || !target.address || socket.domain != address.ss_family)
    return notice.done(::connect(socket.fd.get(), judged, static_cast<socklen_t>(size)) == 0 ? 0 : errno);
  connect_stream(notice, std::move(socket), target);
}

// A connect on a socket that we know already. False: it is a fresh attempt.
bool Supervisor::connect_known(const Notice& notice, const Target& socket, const Endpoint& target, bool nonblocking) {
  if (Attempt* attempt = parts_.judge.find(socket.cookie)) {
    if (attempt->told_to_dial(target)) notice.go_on();  // the preloaded library, which this program has as well
    else if (attempt->has_caller() && (nonblocking || !held_.contains(socket.cookie))) notice.fail(EALREADY);
    else if (nonblocking && !held_.contains(socket.cookie) && gated_.contains(socket.cookie)) {
      // A signal took the first answer: this is the same call again.
      const bool again = unheard_.contains(socket.cookie);
      if (notice.deliver_error(again ? EINPROGRESS : EALREADY) && again) unheard_.erase(socket.cookie);
    } else hold(notice, *attempt, socket.fd.get());
    return true;
  }
  const PageEntry* entry = find_socket(parts_.page.page(), socket.cookie);
  if (entry != nullptr && entry->state.load() == SocketState::lost) {
    notice.fail(ENETDOWN);
    return true;
  }
  if (entry != nullptr && entry->state.load() == SocketState::failed) {
    // The first connect after an asynchronous failure reports it, the next one starts anew.
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) notice.fail(entry->error.load());
    return error != 0;
  }
  int listens = 0;
  socklen_t size = sizeof listens;
  ::getsockopt(socket.fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
  if (listens != 0) {
    notice.fail(EISCONN);  // an attempt would end with taking it off its port
    return true;
  }
  if (!has_peer(socket.fd.get())) return false;
  connect_here(notice, socket, target);  // 0 once after a non-blocking connect, then EISCONN
  return true;
}

// The kernel's own connect, made by us: it does not wait.
void Supervisor::connect_here(const Notice& notice, const Target& socket, const Endpoint& to) {
  sockaddr_storage address;
  const socklen_t size = to.to(address, socket.domain);
  const int error = size == 0                                                                      ? EAFNOSUPPORT
                    : ::connect(socket.fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 ? 0
                                                                                                   : errno;
  if ((error == 0 || error == EINPROGRESS) && notice.from->flavour().births && socket.type == SOCK_STREAM)
    births_.let_go(socket_inode(socket.fd.get()));
  notice.done(error);
}

void Supervisor::hold(const Notice& notice, Attempt& attempt, int socket) {
  timeval patience{};
  socklen_t size = sizeof patience;
  if (!is_nonblocking(socket)) ::getsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, &size);
  const std::uint64_t cookie = attempt.order().ask.cookie;
  auto& call = held_[cookie];
  if (!call) call = std::make_unique<HeldCall>(*this, attempt, cookie);
  call->add(notice, parts_.loop, patience);
  gated_.erase(cookie);
  watch_time();
  attempt.set_caller(call.get());
}

void Supervisor::connect_stream(const Notice& notice, Target socket, const Endpoint& target) {
  const int fd = socket.fd.get();
  const bool nonblocking = is_nonblocking(fd);
  if (connect_known(notice, socket, target, nonblocking)) return;
  static const UniqueFd own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const pid_t process = tasks_.process_of(notice.tid);
  const Asker asker{process, 0};
  wire::ConnectAsk ask{};
  ask.target = target;
  ask.cookie = socket.cookie;
  ask.fd = notice.descriptor(0);
  ask.domain = socket.domain;
  ask.v6_only = is_v6_only(fd, socket.domain);
  ask.blocking = !nonblocking;
  // A socket of another network reaches neither our proxy nor our doors, and must not reach ours through us.
  const bool away = network_of(fd) != network_of(own.get());
  if (away && !target.address.is_loopback())
    return refuse(notice, "the socket is in another network namespace than towpath",
                  "start towpath inside that namespace");
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return full(notice);
  Ruling ruling = away ? Ruling{Ruling::Kind::direct, 0, {}, nullptr} : parts_.judge.judge_connect(ask, copy, asker);
  switch (ruling.kind) {
    case Ruling::Kind::refused: return notice.fail(ruling.error);
    case Ruling::Kind::instead: ask.target = ruling.endpoint; [[fallthrough]];
    case Ruling::Kind::direct: {
      if (nonblocking) return connect_here(notice, socket, ask.target);
      Attempt& native = parts_.judge.native_connect(ask, std::move(copy), asker);
      hold(notice, native, fd);
      return native.start(held_[ask.cookie].get());
    }
    case Ruling::Kind::attempt: break;
  }
  if (nonblocking && tasks_.is_go(process)) {
    notice.fail(EINPROGRESS);
    gated_.insert(ask.cookie);
    watch_time();
    return ruling.attempt->start(nullptr);
  }
  if (nonblocking && ruling.attempt->wait_quietly()) {
    parts_.page.set_quiet(ask.cookie);
    keep_doors();
    gated_.insert(ask.cookie);
    if (!notice.deliver_error(EINPROGRESS)) unheard_.insert(ask.cookie);
    watch_time();
    return ruling.attempt->start(nullptr);
  }
  hold(notice, *ruling.attempt, fd);
  ruling.attempt->start(held_[ask.cookie].get());
}

void Supervisor::connect_datagram(const Notice& notice, Target socket, const Endpoint& target) {
  // Not the preloaded library's door, which the page knows already.
  if (target.address.is_loopback() && target.port != dns_port) return connect_here(notice, socket, target);
  wire::DatagramAsk ask{};
  ask.target = target;
  ask.cookie = socket.cookie;
  ask.domain = socket.domain;
  ask.connects = true;
  const wire::Reply reply = parts_.datagrams.judge(ask, socket.fd.get());
  switch (reply.kind) {
    case wire::Answer::direct: return connect_here(notice, socket, target);
    case wire::Answer::instead: return connect_here(notice, socket, reply.endpoint);
    case wire::Answer::muted: {
      // Its sends are not shown to us: it is connected to where every one is refused.
      const bool six = socket.domain == AF_INET6 && target.address.is_v6();
      UniqueFd& silence = six ? silence_v6_ : silence_v4_;
      Endpoint& where = six ? silent_v6_ : silent_v4_;
      if (!silence) silence = make_silence(six ? AF_INET6 : AF_INET, where);
      return silence ? connect_here(notice, socket, where) : notice.fail(ENETUNREACH);
    }
    default: return notice.fail(reply.number != 0 ? reply.number : ENETUNREACH);
  }
}

}  // namespace towpath
