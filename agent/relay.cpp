#include "agent/relay.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

constexpr std::size_t buffer_size = 64 * 1024;
constexpr int most_rounds = 32;  // per wake-up, so that one busy tunnel does not starve the loop

void reset_on_close(int fd) noexcept {
  const linger now{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace

Relay::Relay(SocketWatch& sockets, UniqueFd program, UniqueFd proxy, std::unique_ptr<TlsChannel> tls, Ended ended)
    : sockets_(sockets),
      program_(*this, std::move(program)),
      proxy_(*this, std::move(proxy)),
      tls_(std::move(tls)),
      ended_(std::move(ended)) {}

Relay::~Relay() {
  for (Side* side : {&program_, &proxy_})
    if (side->watched) sockets_.drop(side->fd.get(), side);
}

void Relay::start(const First& first) {
  up_.begin_with(first.up);
  down_.begin_with(first.down);
  pump();
}

// May be more than a buffer holds; never less, since it is read into later.
void Relay::Flow::begin_with(const std::string& first) {
  if (first.empty()) return;
  bytes = std::make_unique_for_overwrite<std::byte[]>(std::max(buffer_size, first.size()));
  std::memcpy(bytes.get(), first.data(), first.size());
  end = first.size();
}

void Relay::Flow::make_room() {
  if (!bytes) bytes = std::make_unique_for_overwrite<std::byte[]>(buffer_size);
}

Relay::Io Relay::read_program(Flow& flow) {
  flow.make_room();
  const ssize_t got = recv(program_.fd.get(), flow.bytes.get(), buffer_size, MSG_DONTWAIT);
  if (got > 0) {
    flow.begin = 0;
    flow.end = static_cast<std::size_t>(got);
    return Io::moved;
  }
  if (got == 0) return Io::ended;
  return errno == EAGAIN || errno == EINTR ? Io::would_block : Io::failed;
}

Relay::Io Relay::write_program(Flow& flow) {
  const ssize_t put =
      send(program_.fd.get(), flow.bytes.get() + flow.begin, flow.end - flow.begin, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (put < 0) return errno == EAGAIN || errno == EINTR ? Io::would_block : Io::failed;
  flow.begin += static_cast<std::size_t>(put);
  return Io::moved;
}

Relay::Io Relay::read_proxy(Flow& flow) {
  flow.make_room();
  if (!tls_) {
    const ssize_t got = recv(proxy_.fd.get(), flow.bytes.get(), buffer_size, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR ? Io::would_block : Io::failed;
    flow.begin = 0;
    flow.end = static_cast<std::size_t>(got);
    return got == 0 ? Io::ended : Io::moved;
  }
  // A record is at most 16 KB: several of them before the program is woken.
  flow.begin = flow.end = 0;
  proxy_read_wants_write_ = false;
  while (buffer_size - flow.end >= 16 * 1024) {
    const auto moved = tls_->read(flow.bytes.get() + flow.end, buffer_size - flow.end);
    if (moved.step == TlsChannel::Step::done) {
      flow.end += moved.size;
      continue;
    }
    proxy_read_wants_write_ = moved.step == TlsChannel::Step::wants_write;
    if (!flow.empty()) return Io::moved;  // whatever it was comes again
    if (moved.step == TlsChannel::Step::closed) return Io::ended;
    return moved.step == TlsChannel::Step::failed ? Io::failed : Io::would_block;
  }
  return Io::moved;
}

Relay::Io Relay::write_proxy(Flow& flow) {
  if (!tls_) {
    const ssize_t put =
        send(proxy_.fd.get(), flow.bytes.get() + flow.begin, flow.end - flow.begin, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) return errno == EAGAIN || errno == EINTR ? Io::would_block : Io::failed;
    flow.begin += static_cast<std::size_t>(put);
    return Io::moved;
  }
  const auto moved = tls_->write(flow.bytes.get() + flow.begin, flow.end - flow.begin);
  proxy_write_wants_read_ = moved.step == TlsChannel::Step::wants_read;
  if (moved.step == TlsChannel::Step::done) {
    flow.begin += moved.size;
    return Io::moved;
  }
  return moved.step == TlsChannel::Step::failed || moved.step == TlsChannel::Step::closed ? Io::failed
                                                                                          : Io::would_block;
}

// After close_notify the proxy may still speak; without TLS the FIN says the same.
void Relay::finish_to_proxy() {
  if (!tls_) {
    up_.closed = true;
    shutdown(proxy_.fd.get(), SHUT_WR);
    return;
  }
  const TlsChannel::Step step = tls_->shut_down();
  if (step == TlsChannel::Step::wants_write) return;  // a slow proxy: again when there is room
  up_.closed = true;
  if (step == TlsChannel::Step::failed) broken_ = true;
}

// True while there is something to do at once.
bool Relay::step_to_proxy() {
  if (up_.closed) return false;
  if (up_.empty() && !up_.ended) {
    const Io io = read_program(up_);
    if (io == Io::failed) broken_ = true;
    if (io == Io::ended) up_.ended = true;
    if (io == Io::would_block || io == Io::failed) return false;
  }
  if (!up_.empty()) {
    const Io io = write_proxy(up_);
    if (io == Io::failed) broken_ = true;
    return io == Io::moved;
  }
  if (up_.ended) finish_to_proxy();
  return false;
}

bool Relay::step_to_program() {
  if (down_.closed) return false;
  if (down_.empty() && !down_.ended) {
    const Io io = read_proxy(down_);
    if (io == Io::failed) broken_ = true;
    if (io == Io::ended) down_.ended = true;
    if (io == Io::would_block || io == Io::failed) return false;
  }
  if (!down_.empty()) {
    const Io io = write_program(down_);
    if (io == Io::failed) broken_ = true;
    return io == Io::moved;
  }
  if (down_.ended) {
    down_.closed = true;
    shutdown(program_.fd.get(), SHUT_WR);
  }
  return false;
}

void Relay::pump() {
  if (over_) return;
  bool more = true;
  for (int round = 0; round < most_rounds && more && !broken_; ++round) {
    const bool up = step_to_proxy();
    const bool down = !broken_ && step_to_program();
    more = up || down;
  }
  if (broken_ || (up_.closed && down_.closed)) return end(broken_);
  // An idle tunnel keeps no buffer.
  for (Flow* flow : {&up_, &down_})
    if (flow->empty()) flow->bytes.reset();
  rearm(more);
}

void Relay::rearm(bool more) {
  // Bytes may wait inside the TLS session where epoll cannot see them: a writable socket wakes us for certain.
  std::uint32_t program = 0, proxy = more ? EPOLLOUT : 0u;
  if (!up_.closed) {
    if (up_.empty() && !up_.ended) program |= EPOLLIN;
    if (!up_.empty() || up_.ended) proxy |= proxy_write_wants_read_ ? EPOLLIN : EPOLLOUT;
  }
  if (!down_.closed) {
    if (down_.empty() && !down_.ended) proxy |= proxy_read_wants_write_ ? EPOLLIN | EPOLLOUT : +EPOLLIN;
    if (!down_.empty()) program |= EPOLLOUT;
  }
  rearm(program_, program);
  rearm(proxy_, proxy);
}

void Relay::rearm(Side& side, std::uint32_t events) {
  if (side.watched && side.events == events) return;
  side.events = events;
  if (side.watched && events == 0) {
    // Hang-ups are reported whatever was asked for: a side with nothing to do must not be in the set.
    sockets_.drop(side.fd.get(), &side);
    side.watched = false;
    return;
  }
  if (events == 0) return;
  const bool ok =
      side.watched ? sockets_.change(side.fd.get(), events, &side) : sockets_.watch(side.fd.get(), events, &side);
  if (!ok) return end(true);
  side.watched = true;
}

void Relay::end(bool broken) {
  if (over_) return;
  over_ = true;
  for (Side* side : {&program_, &proxy_}) {
    if (side->watched) sockets_.drop(side->fd.get(), side);
    side->watched = false;
    if (broken) reset_on_close(side->fd.get());
  }
  tls_.reset();
  program_.fd.reset();
  proxy_.fd.reset();
  ended_(*this);
}

}  // namespace towpath
