// accept() of supervised servers: what becomes of a connection is agent/inbound's business, as for the library.
#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "agent/supervisor/supervisor.h"
#include "proto/shown_client.h"

namespace towpath {

namespace {

constexpr std::size_t most_unix = 4096;
constexpr int most_in_one_turn = 64;  // connections that are kept, one after the other

int option(int fd, int level, int name) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : 0;
}

std::uint16_t port_of(int fd) noexcept {
  sockaddr_storage own;
  socklen_t size = sizeof own;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) != 0) return 0;
  return Endpoint::from(reinterpret_cast<sockaddr*>(&own), size).port;
}

// Never waits, whatever the listener's own flag says: somebody who shares it may have been faster after we looked.
UniqueFd accept_now(int listener, bool nonblocking, Endpoint& peer) noexcept {
  sockaddr_storage from{};
  socklen_t from_size = sizeof from;
  auto* const address = reinterpret_cast<sockaddr*>(&from);
  const auto take = [&] {
    UniqueFd out(accept4(listener, address, &from_size, SOCK_CLOEXEC));
    if (out) peer = Endpoint::from(address, from_size);
    return out;
  };
  pollfd look{listener, POLLIN, 0};
  if (poll(&look, 1, 0) != 1) {
    errno = EAGAIN;
    return {};
  }
  if (nonblocking) return take();
  timeval before{};
  socklen_t size = sizeof before;
  const timeval tick{0, 1};
  getsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &before, &size);
  setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
  UniqueFd out = take();
  const int error = errno;
  setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &before, sizeof before);
  errno = error;
  return out;
}

}  // namespace

void Supervisor::accept(const Notice& notice) {
  if (!parts_.inbound.on()) return notice.go_on();
  Target socket;
  switch (look(notice, notice.descriptor(0), socket)) {
    case Look::inet: break;
    case Look::stranger: return accept_inherited(notice);
    default: return;
  }
  if (socket.type != SOCK_STREAM) return notice.go_on();
  if (!socket.fd) return accept_inherited(notice);
  const int listener = socket.fd.get();
  // A port without a rule is none of ours; errors of what is no listener are the kernel's.
  if (option(listener, SOL_SOCKET, SO_ACCEPTCONN) == 0 ||
      (!parts_.inbound.rules_changed() && inbound_rule_of(parts_.page.inbound(), port_of(listener)) == 0))
    return notice.go_on();
  note_process(notice.tid);
  AcceptCall call;
  call.notice = notice;
  call.listener = listener;
  call.cookie = socket.cookie;
  call.address = notice.data.args[1];
  call.size = notice.data.args[2];
  call.flags = notice.data.nr == SYS_accept4 ? notice.descriptor(3) : 0;
  if ((call.flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return notice.fail(EINVAL);
  if (call.address != 0) {
    std::int32_t room = 0;
    if (read_memory(notice.tid, call.size, &room, sizeof room) != 0) return notice.fail(EFAULT);
    if (room < 0) return notice.fail(EINVAL);
    call.room = static_cast<socklen_t>(room);
  }
  call.wait = (fcntl(listener, F_GETFL) & O_NONBLOCK) == 0;
  if (try_accept(call)) return;
  timeval patience{};
  socklen_t size = sizeof patience;
  ::getsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, &size);
  auto held = std::make_unique<HeldAccept>(*this, parts_.sockets, call, std::move(socket.fd));
  if (!held->start(parts_.loop, patience)) return notice.fail(ENOBUFS);
  HeldAccept* const key = held.get();
  accepting_.emplace(key, std::move(held));
  watch_time();
}

// Not made under our eyes, and no copy came with the program. A UNIX domain listener is the kernel's business. Of an
// INET listener the ingress's address would be shown, and whatever the client claims.
void Supervisor::accept_inherited(const Notice& notice) {
  const std::uint64_t inode = socket_inode(notice.tid, notice.descriptor(0));
  if (unix_.contains(inode)) return notice.go_on();
  if (is_unix_socket(notice.tid, inode)) {
    if (unix_.size() >= most_unix) unix_.clear();
    unix_.insert(inode);
    return notice.go_on();
  }
  refuse(notice, "towpath cannot manage a listener that the program inherited where pidfd_getfd is refused",
         "let the program make its listener itself, or allow pidfd_getfd (in Docker: --cap-add SYS_PTRACE)");
}

bool Supervisor::try_accept(const AcceptCall& call) {
  Endpoint peer;
  for (int i = 0; i < most_in_one_turn; ++i) {
    if (auto ready = parts_.inbound.next_ready(call.cookie)) return deliver(call, std::move(*ready));
    UniqueFd fd = accept_now(call.listener, !call.wait, peer);
    if (!fd && errno == EAGAIN) {
      if (call.wait) return false;
      call.notice.fail(EAGAIN);
      return true;
    }
    if (!fd && (errno == EMFILE || errno == ENFILE)) {
      full(call.notice);
      return true;
    }
    if (!fd) {
      call.notice.fail(errno);
      return true;
    }
    Inbound::Verdict verdict = parts_.inbound.judge(std::move(fd), call.cookie, peer);
    if (verdict.fate == Inbound::Fate::give) return deliver(call, std::move(verdict.ready));
  }
  // Who waits for edges must not hear EAGAIN while there are more.
  return false;
}

bool Supervisor::deliver(const AcceptCall& call, Inbound::Ready ready) {
  const int fd = ready.socket.get();
  const int domain = option(fd, SOL_SOCKET, SO_DOMAIN);
  if (call.address != 0) {
    const bool v6_only = domain == AF_INET6 && option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
    sockaddr_storage shown{};
    socklen_t full =
        ready.client.address ? shown_client(ready.client, ready.peer, domain, v6_only, call.room, shown) : 0;
    if (full == 0) {
      full = sizeof shown;
      if (::getpeername(fd, reinterpret_cast<sockaddr*>(&shown), &full) != 0)
        full = ready.peer.to(shown, domain);  // dead by now
    }
    const auto part = std::min<std::size_t>(call.room, full);
    if (write_memory(call.notice.tid, call.address, &shown, part) != 0 ||
        write_memory(call.notice.tid, call.size, &full, sizeof full) != 0) {
      parts_.inbound.give_back(std::move(ready));
      call.notice.fail(EFAULT);
      return true;
    }
  }
  const int now = fcntl(fd, F_GETFL);
  const int wanted = (call.flags & SOCK_NONBLOCK) != 0 ? now | O_NONBLOCK : now & ~O_NONBLOCK;
  if (wanted != now) fcntl(fd, F_SETFL, wanted);
  if (call.notice.from->flavour().births && ready.client.address) {
    Births::Born born;
    born.domain = domain;
    born.type = SOCK_STREAM;
    born.cookie = socket_cookie(fd);
    born.v6_only = domain == AF_INET6 && option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
    births_.add(socket_inode(fd), std::move(born));
  }
  const int number = call.notice.from->inject(call.notice, fd, (call.flags & SOCK_CLOEXEC) != 0);
  if (number >= 0) {
    parts_.inbound.delivered(std::move(ready));
    return true;
  }
  parts_.inbound.give_back(std::move(ready));  // EMFILE, or the call was interrupted: the next accept's
  call.notice.fail(number == -ENOENT ? EINTR : -number);
  return true;
}

void Supervisor::on_released(HeldAccept& call) {
  const auto at = accepting_.find(&call);
  if (at == accepting_.end()) return;
  ended_accepts_.push_back(std::move(at->second));
  accepting_.erase(at);
}

// False: nothing is known of that socket's client.
bool Supervisor::show_client(const Notice& notice, const Target& socket, std::uint64_t address, std::uint64_t size) {
  if (!parts_.inbound.on()) return false;
  const ClientEntry* entry = parts_.inbound.clients().find(socket.cookie);
  if (entry == nullptr) return false;
  std::int32_t room = 0;
  if (read_memory(notice.tid, size, &room, sizeof room) != 0 || room < 0 || !notice.valid()) return false;
  const bool v6_only = socket.domain == AF_INET6 &&
                       (socket.fd ? option(socket.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY) != 0 : socket.v6_only);
  sockaddr_storage shown{};
  const socklen_t full = shown_client(*entry, socket.domain, v6_only, static_cast<socklen_t>(room), shown);
  if (full == 0) return false;
  const auto part = std::min<std::size_t>(static_cast<std::size_t>(room), full);
  if (write_memory(notice.tid, address, &shown, part) != 0 || write_memory(notice.tid, size, &full, sizeof full) != 0) {
    notice.fail(EFAULT);
    return true;
  }
  notice.result(0);
  return true;
}

}  // namespace towpath
