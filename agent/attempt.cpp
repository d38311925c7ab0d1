#include "agent/attempt.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

Err text_error(LookupError error, bool of_proxy) noexcept {
  if (error == LookupError::no_answer) return Err::deadline;
  return of_proxy ? Err::proxy_unknown : Err::name_unknown;
}

int socket_error(int fd) noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

}  // namespace

Attempt::Attempt(AttemptHost& host, Order order) : host_(host), order_(std::move(order)), started_ms_(uv_now(host.loop())) {}

void Attempt::start(Conversation* waiting) {
  waiting_ = waiting;
  if (waiting_ != nullptr) waiting_->set_answerer(this);
  deadline_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(host_.loop(), handle); });
  uv_timer_start(
      deadline_.get(),
      [](uv_timer_t* handle) {
        auto& self = *static_cast<Attempt*>(handle->data);
        self.fail({Err::deadline, self.state_ == State::looking_up    ? Stage::lookup
                                  : self.state_ == State::handshaking ? Stage::http
                                                                      : Stage::connect});
      },
      static_cast<std::uint64_t>(order_.policy->connect_timeout.count()), 0);
  look_up();
}

void Attempt::look_up() {
  const std::string& host = order_.proxy != nullptr ? order_.proxy->host : order_.name;
  if (const IpAddress literal = IpAddress::parse(host)) return found({literal}, LookupError::none);
  ticket_ = host_.lookup().resolve_like_host(host, Lookup::Family::any,
                                             [this](std::vector<IpAddress> addresses, LookupError error) {
                                               ticket_ = 0;
                                               found(std::move(addresses), error);
                                             });
  if (ticket_ == 0) fail({Err::agent_busy, Stage::lookup});
}

void Attempt::found(std::vector<IpAddress> addresses, LookupError error) {
  if (error != LookupError::none) return fail({text_error(error, order_.proxy != nullptr), Stage::lookup});
  const std::uint16_t port = order_.proxy != nullptr ? order_.proxy->port : order_.ask.target.port;
  for (const IpAddress& address : addresses) candidates_.push_back({address, port});
  if (order_.proxy != nullptr) host_.on_proxy_found(candidates_);
  std::erase_if(candidates_, [&](const Endpoint& each) {
    return each.address.is_v6() ? order_.ask.domain != AF_INET6 : order_.ask.v6_only;
  });
  last_ = {Err::family_mismatch, Stage::connect};
  dial_next();
}

// connect(2) has no flag for one call: on a blocking socket only a send with MSG_FASTOPEN starts a connect without
// blocking and without touching O_NONBLOCK, which the program shares (tests/platform/fast_open_connect.c).
int Attempt::begin_connect(const Endpoint& to) {
  sockaddr_storage address;
  const socklen_t size = to.to(address, order_.ask.domain);
  if (size == 0) return EAFNOSUPPORT;
  const auto* at = reinterpret_cast<sockaddr*>(&address);
  const int fd = order_.socket.get();
  if ((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0) return connect(fd, at, size) == 0 ? 0 : errno;
  return sendto(fd, "", 0, MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL, at, size) >= 0 ? 0 : errno;
}

void Attempt::dial_next() {
  while (next_ < candidates_.size()) {
    dialled_ = candidates_[next_++];
    state_ = State::dialling;
    const int error = begin_connect(dialled_);
    if (error == EOPNOTSUPP && waiting_ != nullptr) {
      state_ = State::elsewhere;
      wire::Reply reply;
      reply.kind = wire::Answer::dial;
      reply.endpoint = dialled_;
      waiting_->say(reply);
      return;
    }
    if (error == EINPROGRESS) return wait_for(EPOLLOUT);
    if (error == 0) return connected();
    last_ = {order_.proxy != nullptr ? Err::proxy_unreachable : Err::os_error, Stage::connect, 0, error};
  }
  fail(last_);
}

void Attempt::dialled(int error) {
  if (error == 0) return connected();
  last_ = {order_.proxy != nullptr ? Err::proxy_unreachable : Err::os_error, Stage::connect, 0, error};
  // The next address needs a fresh socket state: a socket that failed asynchronously refuses one connect first.
  if (watched_) host_.sockets().drop(order_.socket.get(), this);
  watched_ = false;
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  connect(order_.socket.get(), &nowhere, sizeof nowhere);
  dial_next();
}

void Attempt::connected() {
  if (order_.proxy == nullptr) return finish(SocketState::open, {});
  state_ = State::handshaking;
  const TargetView target{order_.name, order_.ask.target.address, order_.ask.target.port};
  ProxyLogin login;
  if (order_.proxy->credentials) login = {order_.proxy->credentials->user, order_.proxy->credentials->password};
  const ProxyLogin* with = order_.proxy->credentials ? &login : nullptr;
  if (order_.proxy->scheme == ProxyScheme::socks5) machine_.emplace<Socks5Client>(target, with);
  else machine_.emplace<HttpConnectClient>(target, with);
  drive();
}

void Attempt::drive() {
  if (auto* http = std::get_if<HttpConnectClient>(&machine_)) drive(*http);
  else if (auto* socks = std::get_if<Socks5Client>(&machine_)) drive(*socks);
}

template <class Machine>
void Attempt::drive(Machine& machine) {
  const int fd = order_.socket.get();
  for (;;) {
    switch (machine.want()) {
      case Want::send: {
        const auto bytes = machine.to_send();
        const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) machine.sent(static_cast<std::size_t>(sent));
        else if (errno == EAGAIN || errno == EINTR) return wait_for(EPOLLOUT);
        else machine.peer_closed();
        break;
      }
      case Want::receive: {
        // Look, then take exactly what belongs to the handshake: the next byte may be the server's first word.
        std::byte bytes[4096];
        const ssize_t seen = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
        if (seen < 0 && (errno == EAGAIN || errno == EINTR)) return wait_for(EPOLLIN);
        if (seen <= 0) {
          machine.peer_closed();
          break;
        }
        const Fed fed = machine.feed({bytes, static_cast<std::size_t>(seen)});
        if (fed.consumed > 0) recv(fd, bytes, fed.consumed, MSG_DONTWAIT);
        break;
      }
      case Want::finished: return finish(SocketState::open, {});
      case Want::failed: return fail(machine.error());
    }
  }
}

void Attempt::wait_for(std::uint32_t events) {
  if (watched_ && watched_events_ == events) return;
  const bool ok = watched_ ? host_.sockets().change(order_.socket.get(), events, this)
                           : host_.sockets().watch(order_.socket.get(), events, this);
  if (!ok) return fail({Err::os_error, Stage::ask, 0, errno});
  watched_ = true;
  watched_events_ = events;
}

void Attempt::on_socket_ready(std::uint32_t) {
  if (state_ == State::dialling) return dialled(socket_error(order_.socket.get()));
  if (state_ == State::handshaking) drive();
}

void Attempt::on_message(Conversation& talk, const wire::Message& message) {
  if (message.kind == wire::Ask::dialled && state_ == State::elsewhere) {
    if (message.dialled_errno != EINTR && message.dialled_errno != EINPROGRESS) return dialled(message.dialled_errno);
    state_ = State::dialling;  // interrupted in the middle: the kernel goes on, and so do we
    waiting_ = nullptr;
    talk.end();
    return wait_for(EPOLLOUT);
  }
  if (message.kind == wire::Ask::detach) waiting_ = nullptr;
  talk.end();
}

void Attempt::on_asker_gone(Conversation&) {
  waiting_ = nullptr;
  cancel();
}

void Attempt::cancel() {
  if (state_ != State::over) fail({Err::cancelled, Stage::ask});
}

// No byte of the program may reach the proxy after a refusal, and poll must show what a refused connect shows:
// off the proxy first, then a native failure on a port where nobody listens (tests/platform/refused_socket.c).
void Attempt::take_off_the_proxy() {
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  connect(order_.socket.get(), &nowhere, sizeof nowhere);
  if (waiting_ != nullptr) return;  // the caller gets the errno itself, and a socket that can connect again
  const Endpoint closed = host_.closed_port(order_.ask.domain, order_.ask.v6_only);
  if (closed.address) begin_connect(closed);
}

void Attempt::fail(const Error& error) {
  if (state_ == State::over) return;
  if (watched_) host_.sockets().drop(order_.socket.get(), this);
  watched_ = false;
  take_off_the_proxy();
  finish(SocketState::failed, error);
}

void Attempt::finish(SocketState state, const Error& error) {
  state_ = State::over;
  if (ticket_ != 0) host_.lookup().cancel(std::exchange(ticket_, 0));
  if (watched_) host_.sockets().drop(order_.socket.get(), this);
  watched_ = false;
  deadline_.reset();
  Conversation* const caller = std::exchange(waiting_, nullptr);
  host_.on_verdict(*this, state, error);
  registrations_.release(order_.socket.get());
  order_.socket.reset();
  if (caller != nullptr) caller->answer(wire::Answer::done, errno_of(error));
}

std::uint16_t Attempt::status() const noexcept {
  if (const auto* http = std::get_if<HttpConnectClient>(&machine_)) return http->status();
  if (const auto* socks = std::get_if<Socks5Client>(&machine_)) return socks->reply();
  return 0;
}

std::string Attempt::detail() const {
  const auto* http = std::get_if<HttpConnectClient>(&machine_);
  if (http == nullptr) return {};
  return std::string(http->status() == 407 ? http->auth_schemes() : http->detail());
}

}  // namespace towpath
