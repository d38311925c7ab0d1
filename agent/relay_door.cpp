#include "agent/relay_door.h"

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace towpath {

namespace {

// A connection that its other end has reset. What was sent before can still be read, but the port it came from may be
// another socket's by now.
bool is_dead(int fd) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_state == TCP_CLOSE;
}

}  // namespace

bool RelayDoor::listen(Listener& listener, int domain) {
  if (listener.tried) return static_cast<bool>(listener.fd);
  const Endpoint loopback{domain == AF_INET ? IpAddress::v4(INADDR_LOOPBACK) : IpAddress::parse("::1"), 0};
  sockaddr_storage address;
  socklen_t size = loopback.to(address, domain);
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // Descriptors come back; a family that is not there does not.
  listener.tried = fd || (errno != EMFILE && errno != ENFILE);
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd.get(), SOMAXCONN) != 0)
    return false;
  size = sizeof address;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  listener.address = Endpoint::from(reinterpret_cast<sockaddr*>(&address), size);
  if (!listener.acceptor.open(loop_, fd.get(), [this, &listener] { accept(listener); })) return false;
  listener.fd = std::move(fd);
  return true;
}

Endpoint RelayDoor::address(int domain, bool v6_only) {
  Listener& listener = domain == AF_INET6 && v6_only ? v6_ : v4_;
  return listen(listener, &listener == &v6_ ? AF_INET6 : AF_INET) ? listener.address : Endpoint{};
}

RelayDoor::Ticket RelayDoor::expect(const Endpoint& socket_end, Callback callback) {
  expected_.push_back({++last_, socket_end, std::move(callback)});
  // From the loop, also for one that stands at the door already.
  if (!early_.empty()) {
    timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
    uv_timer_start(
        timer_.get(), [](uv_timer_t* handle) { static_cast<RelayDoor*>(handle->data)->match(); }, 0, 0);
  }
  return last_;
}

void RelayDoor::forget(Ticket ticket) {
  expected_.remove_if([&](const Expected& each) { return each.ticket == ticket; });
}

void RelayDoor::accept(Listener& listener) {
  for (int i = 0; i < 64; ++i) {
    Endpoint peer;
    UniqueFd fd = listener.acceptor.next(&peer);
    if (!fd) break;
    if (early_.size() >= most_early) early_.pop_front();
    early_.push_back({peer, std::move(fd), uv_now(loop_)});
  }
  match();
}

void RelayDoor::match() {
  for (auto at = early_.begin(); at != early_.end();) {
    auto wanted = expected_.begin();
    while (wanted != expected_.end() && !(wanted->peer == at->peer)) ++wanted;
    if (wanted == expected_.end()) {
      ++at;
      continue;
    }
    if (is_dead(at->fd.get())) {
      at = early_.erase(at);
      continue;
    }
    Callback callback = std::move(wanted->callback);
    UniqueFd fd = std::move(at->fd);
    expected_.erase(wanted);
    at = early_.erase(at);
    callback(std::move(fd));
    at = early_.begin();  // the callback may have called anything here
  }
  drop_late();
}

void RelayDoor::drop_late() {
  const std::uint64_t now = uv_now(loop_);
  early_.remove_if([&](const Early& each) { return now - each.since_ms >= early_ms; });
  if (early_.empty()) return timer_.reset();
  timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
  uv_timer_start(
      timer_.get(), [](uv_timer_t* handle) { static_cast<RelayDoor*>(handle->data)->match(); }, early_ms, 0);
}

}  // namespace towpath
