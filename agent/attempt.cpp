#include "agent/attempt.h"

#include <cerrno>

#include "agent/plain_relays.h"
#include "agent/proxy_pool.h"
#include "proto/target_check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

constexpr std::size_t most_peeked = 4096;

int socket_error(int fd) noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

bool is_established(int fd) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info.tcpi_state;  // the first byte is all that is wanted
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_ESTABLISHED;
}

}  // namespace

Attempt::Attempt(AttemptHost& host, Order order)
    : host_(host), order_(std::move(order)), registrations_(host.death_bell()), times_{uv_now(host.loop())} {}

void Attempt::start(Caller* waiting) {
  waiting_ = waiting;
  if (order_.native) return found({order_.ask.target.address}, LookupError::none);  // the kernel has its own patience
  deadline_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(host_.loop(), handle); });
  uv_timer_start(
      deadline_.get(), [](uv_timer_t* handle) { static_cast<Attempt*>(handle->data)->on_deadline(); },
      static_cast<std::uint64_t>(order_.policy->connect_timeout.count()), 0);
  begin_search();
}

void Attempt::connected() {
  times_.connected_ms = uv_now(host_.loop());
  if (order_.proxy == nullptr) return relayed_ ? join() : finish(SocketState::open, {});
  if (order_.proxy->scheme != ProxyScheme::https) return shake_hands();
  const std::shared_ptr<TlsClient> client = host_.tls(order_.policy, tls_why_);
  if (client == nullptr) return unreachable({Err::bad_configuration, Stage::tls});
  tls_ = client->open(*order_.proxy, carrier());
  if (!tls_) return unreachable({Err::tls_failed, Stage::tls});
  state_ = State::securing;
  secure();
}

void Attempt::secure() {
  switch (tls_->handshake()) {
    case TlsChannel::Step::done: return shake_hands();
    case TlsChannel::Step::wants_read: return wait_for(EPOLLIN);
    case TlsChannel::Step::wants_write: return wait_for(EPOLLOUT);
    case TlsChannel::Step::closed:
    case TlsChannel::Step::failed: break;
  }
  tls_why_ = tls_->why();
  unreachable(tls_->error());
}

void Attempt::shake_hands() {
  state_ = State::handshaking;
  patience_.reset();  // from here on it is the destination that may take its time
  times_.secured_ms = uv_now(host_.loop());
  const TargetView target{order_.name, order_.ask.target.address, order_.ask.target.port};
  if (absolute_) {
    const Err err = check_target(target);
    if (err != Err::ok) return fail({err, Stage::http});
    end_trial();  // a proxy that takes connections has not said a word yet
    return join();
  }
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

Attempt::Io Attempt::carrier_send(std::span<const std::byte> bytes, std::size_t& moved) {
  if (tls_) {
    const auto [step, size] = tls_->write(bytes.data(), bytes.size());
    moved = size;
    tls_wants_ = step == TlsChannel::Step::wants_read ? EPOLLIN : +EPOLLOUT;
    if (step == TlsChannel::Step::done) return Io::moved;
    return step == TlsChannel::Step::wants_read || step == TlsChannel::Step::wants_write ? Io::would_block : Io::closed;
  }
  const ssize_t sent = send(carrier(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  tls_wants_ = EPOLLOUT;
  // EINPROGRESS: the program asked for TCP_FASTOPEN_CONNECT, and the connection begins with this send.
  if (sent < 0) return errno == EAGAIN || errno == EINTR || errno == EINPROGRESS ? Io::would_block : Io::closed;
  moved = static_cast<std::size_t>(sent);
  return Io::moved;
}

// Looks without taking: the next byte behind the reply may be the server's first word.
Attempt::Io Attempt::carrier_peek(std::span<std::byte> into, std::size_t& moved) {
  if (tls_) {
    const auto [step, size] = tls_->peek(into.data(), into.size());
    moved = size;
    tls_wants_ = step == TlsChannel::Step::wants_write ? EPOLLOUT : +EPOLLIN;
    if (step == TlsChannel::Step::done) return Io::moved;
    return step == TlsChannel::Step::wants_read || step == TlsChannel::Step::wants_write ? Io::would_block : Io::closed;
  }
  const ssize_t seen = recv(carrier(), into.data(), into.size(), MSG_PEEK | MSG_DONTWAIT);
  tls_wants_ = EPOLLIN;
  if (seen < 0) return errno == EAGAIN || errno == EINTR ? Io::would_block : Io::closed;
  moved = static_cast<std::size_t>(seen);
  return seen == 0 ? Io::closed : Io::moved;
}

void Attempt::carrier_take(std::size_t size) {
  std::byte bytes[most_peeked];
  while (size > 0 && tls_) {
    const auto [step, taken] = tls_->read(bytes, size);
    if (step != TlsChannel::Step::done) return;
    size -= taken;
  }
  if (size > 0) recv(carrier(), bytes, size, MSG_DONTWAIT);
}

// The proxy may refuse us only after the handshake: in TLS 1.3 a missing client certificate comes to light there.
bool Attempt::tls_failed() {
  if (!tls_ || tls_->why().empty()) return false;
  tls_why_ = tls_->why();
  return true;
}

template <class Machine>
void Attempt::drive(Machine& machine) {
  for (;;) {
    std::size_t moved = 0;
    switch (machine.want()) {
      case Want::send:
        switch (carrier_send(machine.to_send(), moved)) {
          case Io::moved: machine.sent(moved); break;
          case Io::would_block: return wait_for(tls_wants_);
          case Io::closed:
            if (tls_failed()) return unreachable({Err::tls_failed, Stage::tls});
            machine.peer_closed();
            break;
        }
        break;
      case Want::receive: {
        std::byte bytes[most_peeked];
        switch (carrier_peek(bytes, moved)) {
          case Io::moved:
            if (const Fed fed = machine.feed({bytes, moved}); fed.consumed > 0) carrier_take(fed.consumed);
            break;
          case Io::would_block: return wait_for(tls_wants_);
          case Io::closed:
            if (tls_failed()) return unreachable({Err::tls_failed, Stage::tls});
            machine.peer_closed();
            break;
        }
        break;
      }
      case Want::finished:
        reached();
        host_.plain().on_grant(*order_.proxy, order_.ask.target.port);
        return relayed_ ? join() : finish(SocketState::open, {});
      case Want::failed:
        if (machine.error().code == Err::closed_early) return unreachable(machine.error());
        reached();
        return ask_in_absolute_form() ? dial_next() : fail(machine.error());
    }
  }
}

// The tunnel stands on our own socket: the program's is connected to the relay, and to nothing else.
void Attempt::join() {
  stop_watching();
  state_ = State::joining;
  if (quiet_) return meet();
  errno = 0;
  const Endpoint door = host_.door().address(order_.ask.domain, order_.ask.v6_only);
  if (!door.address && (errno == EMFILE || errno == ENFILE)) return fail({Err::os_error, Stage::connect, 0, ENFILE});
  if (!door.address) return fail({Err::family_mismatch, Stage::connect});
  int error = begin_connect(door);
  if (error == EOPNOTSUPP && ask_to_dial(door)) return;
  if (error == EOPNOTSUPP) error = connect_briefly(door);
  if (error != 0 && error != EINPROGRESS) return fail({Err::os_error, Stage::connect, 0, error});
  announce();
}

void Attempt::announce() {
  sockaddr_storage own;
  socklen_t size = sizeof own;
  if (getsockname(order_.socket.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0)
    return fail({Err::os_error, Stage::connect, 0, errno});
  at_door_ = host_.door().expect(Endpoint::from(reinterpret_cast<sockaddr*>(&own), size), [this](UniqueFd program_end) {
    at_door_ = 0;
    joined(std::move(program_end));
  });
}

void Attempt::joined(UniqueFd program_end) {
  // As in finish(), but with the door, and before a byte or an end can come from the relay.
  if (waiting_ != nullptr)
    begin_connect(quiet_ ? quiet_->door : host_.door().address(order_.ask.domain, order_.ask.v6_only));
  const int at_once = 1;
  setsockopt(program_end.get(), IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
  if (absolute_) relay_in_absolute_form(std::move(program_end));
  else host_.on_relay(std::move(program_end), std::move(own_), std::move(tls_), {});
  finish(SocketState::open, {});
}

void Attempt::wait_for(std::uint32_t events) {
  const int fd = state_ == State::joining ? meeting_.get() : carrier();
  if (watched_fd_ != -1 && watched_fd_ != fd) stop_watching();
  if (watched_fd_ == fd && watched_events_ == events) return;
  const bool ok =
      watched_fd_ == fd ? host_.sockets().change(fd, events, this) : host_.sockets().watch(fd, events, this);
  if (!ok) return fail({Err::os_error, Stage::ask, 0, errno});
  watched_fd_ = fd;
  watched_events_ = events;
}

void Attempt::stop_watching() {
  if (watched_fd_ != -1) host_.sockets().drop(std::exchange(watched_fd_, -1), this);
}

void Attempt::on_socket_ready(std::uint32_t) {
  if (order_.native) {
    forget_interrupted_caller();
    if (waiting_ == nullptr) return finish(SocketState::open, {});  // the error is the program's to read
  }
  if (state_ == State::dialling) return dialled(socket_error(carrier()));
  if (state_ == State::securing) return secure();
  if (state_ == State::handshaking) return drive();
  if (state_ == State::joining && meeting_) met();
}

void Attempt::on_message(Conversation& talk, const wire::Message& message) {
  const bool dialled_for_us = message.kind == wire::Ask::dialled && std::exchange(dial_said_, false);
  if (dialled_for_us && state_ == State::joining) {
    if (message.dialled_errno != 0) return fail({Err::os_error, Stage::connect, 0, message.dialled_errno});
    return announce();
  }
  if (dialled_for_us && state_ == State::elsewhere) {
    if (message.dialled_errno != EINTR && message.dialled_errno != EINPROGRESS) return dialled(message.dialled_errno);
    state_ = State::dialling;  // interrupted in the middle: the kernel goes on, and so do we
    waiting_ = nullptr;
    talk.end();
    return wait_for(EPOLLOUT);
  }
  waiting_ = nullptr;
  talk.end();
  if (message.kind != wire::Ask::detach) cancel();  // nobody of ours says that here
}

void Attempt::on_asker_gone(Conversation&) {
  waiting_ = nullptr;
  cancel();
}

void Attempt::cancel() {
  if (state_ != State::over) fail({Err::cancelled, Stage::ask});
}

void Attempt::leave_the_proxy() {
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  connect(order_.socket.get(), &nowhere, sizeof nowhere);
  (void)socket_error(order_.socket.get());  // ECONNRESET, which is only how we left the proxy
}

// No byte of the program may reach the proxy after a refusal, and poll must show what a refused connect shows:
// off the proxy first, then a native failure on a port where nobody listens (tests/platform/refused_socket.c).
void Attempt::take_off_the_proxy(bool somebody_waits) {
  leave_the_proxy();
  if (somebody_waits || order_.native) return;  // the caller gets the errno itself, and a socket that can connect again
  const Endpoint closed = host_.closed_port(order_.ask.domain, order_.ask.v6_only);
  if (closed.address) begin_connect(closed);
}

// What a blocking caller gets is not what a socket shows that nobody waits for.
void Attempt::forget_interrupted_caller() {
  if (waiting_ != nullptr && !waiting_->still_there()) std::exchange(waiting_, nullptr)->abandoned();
}

void Attempt::fail(const Error& error) {
  if (state_ == State::over) return;
  forget_interrupted_caller();
  stop_watching();
  if (quiet_ && !host_.still_held(*this)) return abandon();
  if (!quiet_) take_off_the_proxy(waiting_ != nullptr);
  finish(SocketState::failed, error);
}

void Attempt::finish(SocketState state, const Error& error) {
  if (state == SocketState::open) forget_interrupted_caller();
  state_ = State::over;
  if (ticket_ != 0) host_.lookup().cancel(std::exchange(ticket_, 0));
  if (at_door_ != 0) host_.door().forget(std::exchange(at_door_, 0));
  stop_watching();
  deadline_.reset();
  patience_.reset();
  if (trial_ != nullptr) host_.proxies().let_go(*std::exchange(trial_, nullptr));
  Caller* const caller = std::exchange(waiting_, nullptr);
  // A connect that was started without waiting is complete for the kernel when it is called again; a blocking caller
  // has no reason to. Not when the connection has ended meanwhile: that would take the news, and what came before it.
  if (caller != nullptr && state == SocketState::open && !relayed_ && is_established(order_.socket.get()))
    begin_connect(dialled_);
  host_.on_verdict(*this, state, error);
  registrations_.release(order_.socket.get());
  if (quiet_) {
    host_.sockets().drop(order_.socket.get(), &quiet_end_);
    if (state == SocketState::failed && !abandoned_) take_off_the_proxy(caller != nullptr);
  }
  order_.socket.reset();
  host_.on_let_go(*this);
  tls_.reset();
  own_.reset();
  meeting_.reset();
  if (caller != nullptr) caller->verdict(errno_of(error));
}

std::uint16_t Attempt::status() const noexcept {
  if (const auto* http = std::get_if<HttpConnectClient>(&machine_)) return http->status();
  if (const auto* socks = std::get_if<Socks5Client>(&machine_)) return socks->reply();
  return 0;
}

std::string Attempt::detail() const {
  if (!tls_why_.empty()) return tls_why_;
  const auto* http = std::get_if<HttpConnectClient>(&machine_);
  if (http == nullptr) return {};
  return std::string(http->status() == 407 ? http->auth_schemes() : http->detail());
}

}  // namespace towpath
