// The part of an attempt that reaches a proxy: its name, its addresses, and the next proxy where it cannot be reached.
//
// Unreachable is a proxy whose name leads nowhere, that refuses TCP or says nothing to it, with which no TLS comes
// about, or that ends the connection before a word of its protocol. As long as there is another one, the attempt goes
// on there: the socket is taken off, as if it had never been used, and everything about the way (relayed, absolute) is
// decided anew. The program learns nothing of it; its socket is gated until the verdict. What a proxy answers is final.
#include "agent/attempt.h"

#include <algorithm>
#include <cerrno>

#include "agent/failure_text.h"
#include "agent/plain_relays.h"
#include "agent/proxy_pool.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

// For the way to a proxy that has a successor: the SYN and its repetitions after 1 and 3 s, then TLS. What needs longer
// is of no use to a program that has 60 s for everything and another proxy.
constexpr std::uint64_t most_patience_ms = 5000;
// One that was unreachable lately costs the connect that tries it less: one repetition.
constexpr std::uint64_t trial_patience_ms = 2000;

Err text_error(LookupError error, bool of_proxy) noexcept {
  if (error == LookupError::no_answer) return Err::deadline;
  return of_proxy ? Err::proxy_unknown : Err::name_unknown;
}

bool is_connected(int fd) noexcept {
  sockaddr_storage peer;
  socklen_t size = sizeof peer;
  return getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
}

bool fits(const IpAddress& address, const wire::ConnectAsk& ask) noexcept {
  return address.is_v6() ? ask.domain == AF_INET6 : !ask.v6_only;
}

// What a program's bind() before connect allows.
bool reaches(const Endpoint& own, const IpAddress& address) noexcept {
  if (!own.address || own.address.is_unspecified() || address.is_loopback()) return true;
  return !own.address.is_loopback() && own.address.is_v6() == address.is_v6();
}

Endpoint own_end(int fd) noexcept {
  sockaddr_storage own;
  socklen_t size = sizeof own;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0
             ? Endpoint::from(reinterpret_cast<sockaddr*>(&own), size)
             : Endpoint{};
}

// What every other proxy would meet as well.
bool is_final(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == EISCONN ||
         error == EALREADY || error == EBADF;
}

// What may come of the program's own bind() before connect: it says nothing about the proxy, and another one may do.
bool is_of_bind(int error, const Endpoint& own) noexcept {
  const bool bound = own.port != 0 || (own.address && !own.address.is_unspecified());
  return bound && (error == EADDRNOTAVAIL || error == EADDRINUSE || error == EINVAL);
}

}  // namespace

void Attempt::begin_search() {
  if (order_.proxies.empty()) return look_up();
  ProxyPool::Plan plan = host_.proxies().plan(order_.proxies, uv_now(host_.loop()));
  plan_ = std::move(plan.order);
  trial_ = plan.trial;
  turn_to_next_proxy();
}

void Attempt::turn_to_next_proxy() {
  order_.proxy = plan_[planned_++];
  turned_ms_ = uv_now(host_.loop());
  state_ = State::looking_up;
  patience_.reset();
  if (planned_ < plan_.size()) {
    const std::uint64_t total = static_cast<std::uint64_t>(order_.policy->connect_timeout.count());
    const std::uint64_t left = total - std::min(total, turned_ms_ - times_.started_ms);
    const std::uint64_t share = left / (plan_.size() - planned_ + 1);
    patience_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(host_.loop(), handle); });
    uv_timer_start(
        patience_.get(),
        [](uv_timer_t* handle) {
          auto& self = *static_cast<Attempt*>(handle->data);
          self.unreachable({Err::deadline, self.state_ == State::looking_up ? Stage::lookup
                                           : self.state_ == State::securing ? Stage::tls
                                                                            : Stage::connect});
        },
        std::max<std::uint64_t>(1, std::min(share, order_.proxy == trial_ ? trial_patience_ms : most_patience_ms)), 0);
  }
  look_up();
}

// The proxy in use cannot be reached: the next one, or the end.
void Attempt::unreachable(const Error& error, bool blame) {
  if (state_ == State::over) return;
  if (order_.proxy == nullptr) return fail(error);
  Failure failure;
  failure.error = error;
  failure.proxy = order_.proxy;
  failure.detail = tls_why_;
  const std::string cause = explain_failure(failure).reason;
  const ProxyUrl* const next = planned_ < plan_.size() ? plan_[planned_] : nullptr;
  if (blame) host_.proxies().unreachable(*order_.proxy, cause, next, turned_ms_, uv_now(host_.loop()));
  end_trial();
  if (next == nullptr) return fail(error);
  host_.on_passed_over(*order_.proxy, error);
  tried_ += (tried_.empty() ? "" : ", ") + order_.proxy->display() + " (" + cause + ")";
  start_over();
  turn_to_next_proxy();
}

void Attempt::on_deadline() {
  const bool handshaking = state_ == State::handshaking;
  const Error error{Err::deadline, state_ == State::looking_up ? Stage::lookup
                                   : handshaking               ? Stage::http
                                                               : Stage::connect};
  // Silence after the request may be the destination's, except where the proxy was silent before.
  planned_ = plan_.size();
  if (state_ == State::joining || (handshaking && order_.proxy != trial_)) return fail(error);
  unreachable(error);
}

// The proxy has spoken: from here on what it says is the truth.
void Attempt::reached() {
  patience_.reset();
  if (order_.proxy == nullptr) return;
  host_.proxies().reached(*order_.proxy, turned_ms_);
  end_trial();
}

void Attempt::end_trial() {
  if (order_.proxy != nullptr && trial_ == order_.proxy) host_.proxies().let_go(*std::exchange(trial_, nullptr));
}

void Attempt::start_over() {
  if (ticket_ != 0) host_.lookup().cancel(std::exchange(ticket_, 0));
  stop_watching();
  // A carrier of our own has not touched the program's socket.
  if (!relayed_ && state_ != State::looking_up) leave_the_proxy();
  tls_.reset();
  own_.reset();
  tls_why_.clear();
  machine_.emplace<std::monostate>();
  candidates_.clear();
  next_ = 0;
  relayed_ = absolute_ = false;
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
  if (error != LookupError::none) return unreachable({text_error(error, order_.proxy != nullptr), Stage::lookup});
  const std::uint16_t port = order_.proxy != nullptr ? order_.proxy->port : order_.ask.target.port;
  for (const IpAddress& address : addresses) candidates_.push_back({address, port});
  if (order_.proxy != nullptr) host_.on_proxy_found(*order_.policy, candidates_);
  absolute_ =
      order_.proxy != nullptr && host_.plain().absolute_at_once(*order_.policy, *order_.proxy, order_.ask.target.port);
  relayed_ = absolute_ || quiet_ || needs_relay();
  if (!relayed_) std::erase_if(candidates_, [&](const Endpoint& each) { return !fits(each.address, order_.ask); });
  last_ = {Err::family_mismatch, Stage::connect};
  dial_next();
}

bool Attempt::needs_relay() const {
  if (order_.proxy == nullptr) return false;
  if (order_.proxy->scheme == ProxyScheme::https) return true;
  const Endpoint own = own_end(order_.socket.get());
  for (const Endpoint& each : candidates_)
    if (fits(each.address, order_.ask) && reaches(own, each.address)) return false;
  return true;
}

int Attempt::begin_own_connect(const Endpoint& to) {
  sockaddr_storage address;
  const int domain = to.native_domain();
  own_.reset(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!own_) return errno;
  const int at_once = 1;
  setsockopt(own_.get(), IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
  return connect(own_.get(), reinterpret_cast<sockaddr*>(&address), to.to(address, domain)) == 0 ? 0 : errno;
}

// connect(2) has no flag for one call: on a blocking socket only a send with MSG_FASTOPEN starts a connect without
// blocking and without touching O_NONBLOCK, which the program shares (tests/platform/fast_open_connect.c).
int Attempt::begin_connect(const Endpoint& to) {
  sockaddr_storage address;
  const socklen_t size = to.to(address, order_.ask.domain);
  if (size == 0) return EAFNOSUPPORT;
  const auto* at = reinterpret_cast<sockaddr*>(&address);
  const int fd = order_.socket.get();
  const bool nonblocking = (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
  for (bool again = false;; again = true) {
    const ssize_t result =
        nonblocking ? connect(fd, at, size) : sendto(fd, "", 0, MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL, at, size);
    if (result >= 0) return 0;
    // A socket whose last attempt failed behind the program's back refuses one connect first, and is free by that.
    if (errno != ECONNABORTED || again) return errno;
  }
}

// Where fast open is off and nobody can dial for us, a connect on a blocking socket is cut short by a send timeout of
// one tick; the kernel goes on with it. The program's thread is held meanwhile.
int Attempt::connect_briefly(const Endpoint& to) {
  sockaddr_storage address;
  const socklen_t size = to.to(address, order_.ask.domain);
  const int fd = order_.socket.get();
  timeval before{};
  socklen_t room = sizeof before;
  const timeval tick{0, 1};
  if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &before, &room) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tick, sizeof tick) != 0)
    return errno;
  const int error = connect(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 ? 0 : errno;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &before, sizeof before);
  return error;
}

bool Attempt::ask_to_dial(const Endpoint& to) {
  if (waiting_ == nullptr) return false;
  dial_said_ = true;
  dial_said_to_ = to;
  return waiting_->dial(to);
}

// Whoever has a successor must not be waited for longer than its share: an asker's own connect knows no limit.
bool Attempt::lets_asker_dial(const Endpoint& to) { return planned_ >= plan_.size() && ask_to_dial(to); }

void Attempt::dial_next() {
  while (next_ < candidates_.size()) {
    dialled_ = candidates_[next_++];
    state_ = State::dialling;
    int error = relayed_ ? begin_own_connect(dialled_) : begin_connect(dialled_);
    if (error == EOPNOTSUPP && lets_asker_dial(dialled_)) {
      state_ = State::elsewhere;
      return;
    }
    if (error == EOPNOTSUPP) error = connect_briefly(dialled_);
    // On this very host the connection stands by the time the call returns.
    if (order_.native && error == EALREADY) error = EINPROGRESS;  // begun before, without waiting
    if (error == EINPROGRESS && !is_connected(carrier())) return wait_for(EPOLLOUT);
    if (error == EINPROGRESS) return connected();
    if (error == 0) return connected();
    last_ = {order_.proxy != nullptr ? Err::proxy_unreachable : Err::os_error, Stage::connect, 0, error};
  }
  if (is_final(last_.os)) return fail(last_);
  unreachable(last_, relayed_ || !is_of_bind(last_.os, own_end(order_.socket.get())));
}

void Attempt::dialled(int error) {
  if (error == 0) return connected();
  last_ = {order_.proxy != nullptr ? Err::proxy_unreachable : Err::os_error, Stage::connect, 0, error};
  // The next address needs a fresh socket state: a socket that failed asynchronously refuses one connect first.
  stop_watching();
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  if (!relayed_) connect(order_.socket.get(), &nowhere, sizeof nowhere);
  dial_next();
}

}  // namespace towpath
