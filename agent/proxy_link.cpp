#include "agent/proxy_link.h"

#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

void ProxyLink::adopt(UniqueFd fd, std::unique_ptr<TlsChannel> tls) {
  drop();
  fd_ = std::move(fd);
  tls_ = std::move(tls);
  state_ = State::up;
}

void ProxyLink::drop() {
  if (std::exchange(watched_, false)) sockets_.drop(fd_.get(), this);
  tls_.reset();
  fd_.reset();
  state_ = State::down;
  read_wants_write_ = write_wants_read_ = false;
}

void ProxyLink::abort() {
  const linger now{1, 0};
  if (fd_) setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  drop();
}

void ProxyLink::release(UniqueFd& fd, std::unique_ptr<TlsChannel>& tls) {
  if (std::exchange(watched_, false)) sockets_.drop(fd_.get(), this);
  fd = std::move(fd_);
  tls = std::move(tls_);
  drop();
}

bool ProxyLink::fail(std::string why) {
  why_ = std::move(why);
  drop();
  return false;
}

bool ProxyLink::dial(const Endpoint& to, const ProxyUrl& proxy, std::shared_ptr<TlsClient> tls) {
  drop();
  client_ = std::move(tls);
  proxy_ = &proxy;
  sockaddr_storage address;
  const int domain = to.native_domain();
  const socklen_t size = to.to(address, domain);
  fd_.reset(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd_) return fail(std::strerror(errno));
  const int at_once = 1;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
  if (connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) == -1 && errno != EINPROGRESS)
    return fail(std::strerror(errno));
  state_ = State::dialling;
  return true;
}

bool ProxyLink::advance() {
  if (state_ == State::dialling) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == -1) error = errno;
    if (error != 0) return fail(std::strerror(error));
    sockaddr_storage peer;
    size = sizeof peer;
    if (getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size) == -1) return true;  // not yet
    state_ = State::up;
    if (!client_) return true;
    tls_ = client_->open(*proxy_, fd_.get());
    if (!tls_) return fail("no TLS session can be made");
    state_ = State::securing;
  }
  return state_ != State::securing || secure();
}

bool ProxyLink::secure() {
  switch (tls_->handshake()) {
    case TlsChannel::Step::done: state_ = State::up; return true;
    case TlsChannel::Step::wants_read: handshake_wants_ = EPOLLIN; return true;
    case TlsChannel::Step::wants_write: handshake_wants_ = EPOLLOUT; return true;
    case TlsChannel::Step::closed:
    case TlsChannel::Step::failed: break;
  }
  return fail(tls_->why().empty() ? "the TLS handshake failed" : tls_->why());
}

ProxyLink::Io ProxyLink::read(std::span<char> into, std::size_t& moved) {
  moved = 0;
  if (!tls_) {
    const ssize_t got = recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR ? Io::would_block : Io::failed;
    moved = static_cast<std::size_t>(got);
    return got == 0 ? Io::ended : Io::moved;
  }
  const auto [step, size] = tls_->read(into.data(), into.size());
  read_wants_write_ = step == TlsChannel::Step::wants_write;
  moved = size;
  if (step == TlsChannel::Step::done) return Io::moved;
  if (step == TlsChannel::Step::closed) return Io::ended;
  return step == TlsChannel::Step::failed ? Io::failed : Io::would_block;
}

ProxyLink::Io ProxyLink::write(std::string_view bytes, std::size_t& moved) {
  moved = 0;
  if (!tls_) {
    const ssize_t put = send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) return errno == EAGAIN || errno == EINTR ? Io::would_block : Io::failed;
    moved = static_cast<std::size_t>(put);
    return Io::moved;
  }
  const auto [step, size] = tls_->write(bytes.data(), bytes.size());
  write_wants_read_ = step == TlsChannel::Step::wants_read;
  moved = size;
  if (step == TlsChannel::Step::done) return Io::moved;
  return step == TlsChannel::Step::failed || step == TlsChannel::Step::closed ? Io::failed : Io::would_block;
}

bool ProxyLink::watch(bool for_bytes, bool for_room, bool again) {
  std::uint32_t events = again ? +EPOLLOUT : 0u;
  switch (state_) {
    case State::down: return true;
    case State::dialling: events = EPOLLOUT; break;
    case State::securing: events = handshake_wants_; break;
    case State::up:
      if (for_bytes) events |= read_wants_write_ ? EPOLLIN | EPOLLOUT : +EPOLLIN;
      if (for_room) events |= write_wants_read_ ? EPOLLIN : EPOLLOUT;
      break;
  }
  if (watched_ && events == events_) return true;
  events_ = events;
  // Hang-ups are reported whatever was asked for: a link with nothing to do must not be in the set.
  if (events == 0) {
    if (std::exchange(watched_, false)) sockets_.drop(fd_.get(), this);
    return true;
  }
  const bool ok = watched_ ? sockets_.change(fd_.get(), events, this) : sockets_.watch(fd_.get(), events, this);
  watched_ = ok;
  return ok;
}

}  // namespace towpath
