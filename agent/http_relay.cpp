#include "agent/http_relay.h"

#include <cerrno>

#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

constexpr std::size_t room = 64 * 1024;
constexpr int most_rounds = 32;  // per wake-up, so that one busy connection does not starve the loop

constexpr std::string_view not_http_hint =
    "the proxy tunnels no port 80, so only HTTP/1 gets through there: add the host to exempt, or allow CONNECT to port "
    "80 "
    "at the proxy";

// RFC 9110 9.2.1: to ask again changes nothing.
bool is_safe(std::string_view method) { return method == "GET" || method == "HEAD" || method == "OPTIONS"; }

PlainEdit edit_for(const HttpRelay::Order& order) {
  ProxyLogin login;
  return PlainEdit({order.name, order.target.address, order.target.port}, HttpRelay::login_of(*order.proxy, login));
}

}  // namespace

bool HttpRelay::Buffer::has_room() const noexcept { return bytes.size() - begin < room; }

void HttpRelay::Buffer::take(std::size_t size) {
  begin += size;
  if (!empty() && begin < room) return;
  bytes.erase(0, begin);
  begin = 0;
}

HttpRelay::HttpRelay(Host& host, Order order)
    : host_(host), order_(std::move(order)), edit_(edit_for(order_)), link_(host.relay_sockets(), *this) {}

HttpRelay::~HttpRelay() {
  if (program_watched_) host_.relay_sockets().drop(order_.program.get(), this);
}

void HttpRelay::start() {
  link_.adopt(std::move(order_.link), std::move(order_.tls));
  set_deadline();
  pump();
}

void HttpRelay::set_deadline() {
  deadline_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(host_.relay_loop(), handle); });
  uv_timer_start(
      deadline_.get(), [](uv_timer_t* handle) { static_cast<HttpRelay*>(handle->data)->on_deadline(); },
      static_cast<std::uint64_t>(order_.policy->connect_timeout.count()), 0);
}

void HttpRelay::on_deadline() {
  deadline_.reset();
  if (state_ == State::asking && !any_request_)
    trouble("plain_http_silent", "the program sent no whole request in time; does its server speak first?",
            not_http_hint);
  else if (state_ != State::closing)
    trouble("plain_http_failed", "the proxy did not answer in time", "connectTimeout is how long towpath waits");
  end(state_ != State::closing);
}

void HttpRelay::trouble(std::string_view event, const std::string& reason, std::string_view hint) {
  host_.on_trouble(*this, event, reason, hint);
}

void HttpRelay::on_link() {
  if (state_ == State::over) return;
  if (link_.state() == ProxyLink::State::dialling || link_.state() == ProxyLink::State::securing) {
    if (!link_.advance()) {
      host_.on_unheard(*this, asked_ms_, link_.why());
      trouble("plain_http_failed", "cannot connect to the proxy again: " + link_.why());
      return end(true);
    }
    if (link_.state() == ProxyLink::State::up && state_ != State::tunnelling) deadline_.reset();
  }
  pump();
}

void HttpRelay::open_link() {
  if (link_.state() != ProxyLink::State::down) return;
  from_link_ = {};
  link_used_ = false;
  std::string why;
  std::shared_ptr<TlsClient> tls;
  if (order_.proxy->scheme == ProxyScheme::https && !(tls = host_.relay_tls(*this, why))) {
    trouble("plain_http_failed", why);
    return end(true);
  }
  if (!link_.dial(order_.proxy_address, *order_.proxy, std::move(tls))) {
    trouble("plain_http_failed", "cannot connect to the proxy again: " + link_.why());
    return end(true);
  }
  set_deadline();
}

void HttpRelay::pump() {
  bool more = true;
  for (int round = 0; round < most_rounds && more && state_ != State::over; ++round) {
    more = false;
    // No short cuts: each may be all that can move.
    for (const auto step : {&HttpRelay::read_program, &HttpRelay::digest_requests, &HttpRelay::write_link,
                            &HttpRelay::read_link, &HttpRelay::digest_answers, &HttpRelay::write_program}) {
      if ((this->*step)()) more = true;
      if (state_ == State::over) return;
    }
  }
  // An idle connection keeps no buffer.
  for (Buffer* each : {&from_program_, &to_link_, &from_link_, &to_program_})
    if (each->empty()) each->bytes = {};
  rearm(more);
}

// As much as there is and fits, so that a head and its body leave in one segment.
bool HttpRelay::digest_requests() {
  bool any = false;
  while (state_ != State::over && digest_request()) any = true;
  return any;
}

bool HttpRelay::digest_answers() {
  bool any = false;
  while (state_ != State::over && digest_answer()) any = true;
  return any;
}

bool HttpRelay::read_program() {
  if (program_ended_ || !from_program_.has_room()) return false;
  char bytes[room];
  const ssize_t got = recv(order_.program.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) end(true);
    return false;
  }
  if (got == 0) on_program_end();
  else if (state_ != State::closing) from_program_.bytes.append(bytes, static_cast<std::size_t>(got));
  return got > 0;
}

// FIN is not passed on: a proxy may take it for the end of the whole exchange.
void HttpRelay::on_program_end() {
  program_ended_ = true;
  if (state_ == State::closing && said_fin_) end(false);
}

bool HttpRelay::digest_request() {
  const bool wants = state_ == State::asking || (state_ == State::exchange && !request_done_);
  if (!wants || !to_link_.has_room()) return false;
  HttpHead head;
  const HttpMessages::Event event = requests_.next(from_program_.view(), head);
  if (event.what == HttpMessages::What::body) to_link_.bytes.append(event.bytes);
  from_program_.take(event.used);
  switch (event.what) {
    case HttpMessages::What::head: on_request(head); break;
    case HttpMessages::What::body: break;
    case HttpMessages::What::trailers: edit_.write_trailers(head, to_link_.bytes); break;
    case HttpMessages::What::end:
      request_done_ = true;
      finish_exchange();
      break;
    case HttpMessages::What::more:
      if (event.used > 0) return true;
      if (!program_ended_) return false;
      // What it began to say is not said in part: the proxy sees a reset.
      if (state_ == State::asking && requests_.idle()) begin_closing();
      else give_up();
      return false;
    case HttpMessages::What::flaw:
      trouble(any_request_ ? "plain_http_refused" : "not_plain_http",
              "the program's bytes are no request: " + std::string(text_of(requests_.flaw())), not_http_hint);
      give_up();
      return false;
  }
  return state_ != State::over;
}

// The program's stream cannot be followed any more. Answers to what came before are still its own.
void HttpRelay::give_up() {
  const bool answered = state_ == State::asking ? !to_program_.empty() : answer_done_;
  if (!answered) return end(true);
  link_.abort();
  begin_closing();
}

void HttpRelay::on_request(const HttpHead& head) {
  if (!any_request_) deadline_.reset();
  any_request_ = true;
  switch (edit_.way_of(head)) {
    case PlainEdit::Way::forward: break;
    case PlainEdit::Way::upgrade:
      if (host_.may_tunnel(*this)) return begin_tunnel();
      no_upgrade();
      break;
    case PlainEdit::Way::tunnel:
      if (host_.may_tunnel(*this)) return begin_tunnel();
      return no_tunnel();
    case PlainEdit::Way::refuse:
      trouble("plain_http_refused", "the request is for another place than the program connected to", not_http_hint);
      return give_up();
  }
  forward(head);
}

void HttpRelay::forward(const HttpHead& head) {
  if (edit_.host_differs(head))
    trouble("plain_http_host", "Host is not where the program connected to; the proxy may replace it",
            "allow CONNECT to port 80 at the proxy, or add the host to exempt");
  asked_ms_ = uv_now(host_.relay_loop());
  asked_ = HttpAsked::of(head);
  asked_.upgrade = false;
  request_1_1_ = head.is_1_1();
  request_stays_ = head.persists();
  request_done_ = sent_any_ = redialled_ = link_broke_ = interim_ = answer_begun_ = answer_done_ = false;
  const HttpFraming framing = framing_of(head);
  edit_.write_request(head, to_link_.bytes);
  requests_.body_follows(framing);
  state_ = State::exchange;
  link_used_ = link_used_ && link_.state() == ProxyLink::State::up;
  const bool repeatable = framing.kind == HttpFraming::Kind::none && is_safe(head.method());
  if (link_used_ && !repeatable && !link_promised_) link_.drop();
  resend_ = link_used_ && repeatable ? to_link_.bytes : std::string();
  open_link();
}

bool HttpRelay::write_link() {
  if (to_link_.empty() || link_.state() != ProxyLink::State::up) return false;
  std::size_t moved = 0;
  switch (link_.write(to_link_.view(), moved)) {
    case ProxyLink::Io::moved: break;
    case ProxyLink::Io::would_block: return false;
    case ProxyLink::Io::ended:
    case ProxyLink::Io::failed:
      // An answer may lie there all the same: of a proxy that refuses a body, or closed an idle connection.
      if (sent_any_ && read_link()) return true;
      if (state_ != State::over && link_.state() == ProxyLink::State::up) on_link_end(true);
      return false;
  }
  sent_any_ = true;
  to_link_.take(moved);
  if (to_link_.empty()) finish_exchange();
  return state_ != State::over;
}

bool HttpRelay::read_link() {
  if (link_.state() != ProxyLink::State::up || !from_link_.has_room()) return false;
  char bytes[room];
  std::size_t moved = 0;
  switch (link_.read(bytes, moved)) {
    case ProxyLink::Io::moved: break;
    case ProxyLink::Io::would_block: return false;
    case ProxyLink::Io::ended: on_link_end(false); return false;
    case ProxyLink::Io::failed: on_link_end(true); return false;
  }
  // Nobody asked: a notice that it closes (408), or an answer meant for another. Never the next request's answer.
  if (state_ == State::asking || (state_ == State::exchange && !sent_any_)) {
    on_link_end(false);
    return state_ != State::over;
  }
  if (state_ != State::closing) from_link_.bytes.append(bytes, moved);
  return true;
}

void HttpRelay::on_link_end(bool failed) {
  link_.drop();
  if (state_ == State::asking || state_ == State::closing) return;
  if (state_ == State::tunnelling) {
    connect_->peer_closed();
    return;  // drive_tunnel() sees to it
  }
  if (!sent_any_ && !std::exchange(redialled_, true)) return open_link();
  if (!resend_.empty() && answers_.idle() && from_link_.empty() && !answer_begun_) {
    to_link_.bytes = std::exchange(resend_, {});
    to_link_.begin = 0;
    sent_any_ = false;
    return open_link();
  }
  // What came before the end is digested first; then digest_answer() finds that no more comes.
  link_broke_ = failed;
}

bool HttpRelay::digest_answer() {
  if (state_ == State::tunnelling) return drive_tunnel();
  if (state_ != State::exchange || !to_program_.has_room()) return false;
  const bool down = link_.state() == ProxyLink::State::down;
  if (answer_done_) {
    // It answered before it had the whole request, and is gone: the rest of the request goes nowhere.
    if (down) begin_closing();
    return false;
  }
  HttpHead head;
  const HttpMessages::Event event = answers_.next(from_link_.view(), head);
  if (event.what == HttpMessages::What::body) to_program_.bytes.append(event.bytes);
  from_link_.take(event.used);
  switch (event.what) {
    case HttpMessages::What::head: on_answer(head); break;
    case HttpMessages::What::body: break;
    case HttpMessages::What::trailers: edit_.write_trailers(head, to_program_.bytes); break;
    case HttpMessages::What::end: on_answer_end(); break;
    case HttpMessages::What::more:
      if (!down || event.used > 0) return event.used > 0;
      if (answers_.idle()) {
        if (!link_used_) host_.on_unheard(*this, asked_ms_, "it closes without an answer");
        trouble("plain_http_failed", "the proxy closed without an answer");
      } else if (link_broke_) trouble("plain_http_failed", "the proxy's connection broke in the middle of an answer");
      else if (answers_.peer_closed() == HttpMessages::What::end) return on_answer_end(), true;
      else return true;  // a flaw, which the next event tells
      end(true);
      return false;
    case HttpMessages::What::flaw:
      trouble("plain_http_failed", "the proxy's answer is not valid: " + std::string(text_of(answers_.flaw())));
      end(true);
      return false;
  }
  return state_ != State::over;
}

void HttpRelay::on_answer_end() {
  if (std::exchange(interim_, false)) return;
  answer_done_ = true;
  finish_exchange();
  if (state_ == State::exchange && !link_stays_) begin_closing();  // it does not want the rest of the request
}

void HttpRelay::on_answer(const HttpHead& head) {
  const HttpFraming framing = framing_of(head, asked_);
  answers_.body_follows(framing);
  if (framing.flaw != HttpFlaw::none) return;  // the next event says so
  if (!link_used_ && !answer_begun_) host_.on_heard(*this, asked_ms_);
  answer_begun_ = true;
  resend_.clear();
  interim_ = is_interim(head.status());
  if (interim_) {
    if (request_1_1_) edit_.write_response(head, true, true, to_program_.bytes);  // RFC 9110 15.2
    return;
  }
  const bool endless = framing.kind == HttpFraming::Kind::until_close;
  link_stays_ = head.persists() && !head.lists("proxy-connection", "close") && !endless;
  link_promised_ = head.lists("connection", "keep-alive") || head.lists("proxy-connection", "keep-alive");
  stays_ = request_stays_ && !endless;
  if (head.status() == 407 && !std::exchange(told_407_, true))
    trouble("plain_http_login",
            order_.proxy->credentials ? "the proxy rejected the credentials (status 407)"
                                      : "the proxy wants credentials (status 407)",
            order_.proxy->credentials ? "check user and password of the proxy"
                                      : "put user:password@ into the proxy's URL, or set credentialsFile");
  edit_.write_response(head, request_1_1_, stays_, to_program_.bytes);
}

void HttpRelay::finish_exchange() {
  if (state_ != State::exchange || !request_done_ || !answer_done_ || !to_link_.empty()) return;
  // Bytes behind the answer are nobody's.
  if (!link_stays_ || !from_link_.empty()) link_.drop();
  from_link_ = {};
  link_used_ = true;
  state_ = State::asking;
  if (!stays_) begin_closing();
}

void HttpRelay::begin_closing() {
  state_ = State::closing;
  link_.drop();
  from_program_ = to_link_ = from_link_ = {};
  deadline_.reset();
}

bool HttpRelay::write_program() {
  if (to_program_.empty()) {
    if (state_ != State::closing || said_fin_) return false;
    said_fin_ = true;
    shutdown(order_.program.get(), SHUT_WR);
    if (program_ended_) end(false);
    else set_deadline();  // not before: a program that reads slowly must get all of it
    return false;
  }
  const std::string_view bytes = to_program_.view();
  const ssize_t put = send(order_.program.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (put < 0) {
    if (errno != EAGAIN && errno != EINTR) end(true);
    return false;
  }
  to_program_.take(static_cast<std::size_t>(put));
  return true;
}

void HttpRelay::rearm(bool again) {
  if (state_ == State::over) return;
  std::uint32_t events = 0;
  if (!program_ended_ && from_program_.has_room()) events |= EPOLLIN;
  if (!to_program_.empty()) events |= EPOLLOUT;
  const bool sends = !to_link_.empty() || (connect_ && connect_->want() == Want::send);
  if (again && link_.state() == ProxyLink::State::down) events |= EPOLLOUT;
  if (!link_.watch(from_link_.has_room(), sends, again)) return end(true);
  if (program_watched_ && events == program_events_) return;
  program_events_ = events;
  SocketWatch& sockets = host_.relay_sockets();
  const int fd = order_.program.get();
  if (events == 0) {
    if (std::exchange(program_watched_, false)) sockets.drop(fd, this);
    return;
  }
  const bool ok = program_watched_ ? sockets.change(fd, events, this) : sockets.watch(fd, events, this);
  program_watched_ = ok;
  if (!ok) end(true);
}

void HttpRelay::end(bool broken) {
  if (state_ == State::over) return;
  state_ = State::over;
  deadline_.reset();
  if (std::exchange(program_watched_, false)) host_.relay_sockets().drop(order_.program.get(), this);
  if (broken && order_.program) {
    const linger now{1, 0};
    setsockopt(order_.program.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  if (broken) link_.abort();
  else link_.drop();
  order_.program.reset();
  host_.on_relay_over(*this);
}

}  // namespace towpath
