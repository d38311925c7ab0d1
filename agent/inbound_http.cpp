#include "agent/inbound_http.h"

#include <algorithm>
#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

constexpr std::size_t read_size = 64 * 1024;
constexpr std::size_t most_pending = 256 * 1024;  // per direction; the source waits when the destination does not read
constexpr std::size_t most_programs = 32;         // connections of one client connection: idle ones make room
constexpr int most_rounds = 16;                   // per wake-up, so that one busy connection does not starve the loop
constexpr std::uint32_t watched_events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

void no_delay(int fd) noexcept {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

void HttpSplit::Side::on_socket_ready(std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hung_up = true;
  if ((events & (EPOLLOUT | EPOLLERR)) != 0) writable = true;
  owner.pump();
}

HttpSplit::HttpSplit(Inbound& inbound, UniqueFd client, const Endpoint& peer, const Endpoint& local, bool trusted)
    : inbound_(inbound), client_(*this, std::move(client)), peer_(peer), local_(local), trusted_(trusted) {}

HttpSplit::~HttpSplit() { end(false); }

void HttpSplit::start() {
  inbound_.room().enter(*this, peer_.address);
  in_room_ = true;
  no_delay(client_.fd.get());
  if (!watch(client_)) return end(true);
  pump();
}

// ---- sockets

bool HttpSplit::watch(Side& side) {
  side.watched = inbound_.host().sockets().watch(side.fd.get(), watched_events, &side);
  return side.watched;
}

void HttpSplit::unwatch(Side& side) {
  if (side.watched) inbound_.host().sockets().drop(side.fd.get(), &side);
  side.watched = false;
}

// True: something came, or the end did.
bool HttpSplit::read(Side& side) {
  if (!side.readable || side.ended || side.failed) return false;
  static char room[read_size];
  const ssize_t got = recv(side.fd.get(), room, sizeof room, MSG_DONTWAIT);
  if (got > 0) {
    side.in.append(room, static_cast<std::size_t>(got));
    // A short read has emptied the socket; whatever comes later is a new edge, but an end that came before is not.
    if (static_cast<std::size_t>(got) < sizeof room && !side.hung_up) side.readable = false;
    return true;
  }
  if (got < 0 && errno == EINTR) return true;
  side.readable = false;
  if (got < 0 && errno == EAGAIN) return false;
  side.ended = true;
  side.failed = got < 0;
  return true;
}

bool HttpSplit::write(Side& side) {
  if (side.out.empty() || !side.writable) return false;
  const ssize_t put = send(side.fd.get(), side.out.data(), side.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (put < 0) {
    if (errno == EINTR) return true;
    side.writable = false;
    if (errno == EAGAIN) return false;
    // Nobody reads there any more. What it has said before may still be read.
    side.out.clear();
    side.shut = true;
    side.readable = side.hung_up = true;
    return true;
  }
  if (static_cast<std::size_t>(put) == side.out.size()) {
    side.out.clear();
    if (side.out.capacity() > read_size) side.out.shrink_to_fit();
  } else {
    side.out.erase(0, static_cast<std::size_t>(put));
  }
  return true;
}

// ---- the pump

void HttpSplit::pump() {
  if (pumping_ || stage_ == Stage::over) return;
  pumping_ = true;
  bool moved = true;
  for (int round = 0; moved && round < most_rounds && stage_ != Stage::over; ++round) {
    moved = from_client();
    if (stage_ == Stage::over) break;
    if (current_ != nullptr && write(*current_)) moved = true;
    if (from_program()) moved = true;
    if (stage_ == Stage::over) break;
    if (write(client_)) moved = true;
    if (stage_ == Stage::exchange) end_exchange();
    if (stage_ == Stage::streaming) step_stream();
    if (stage_ == Stage::finishing) step_finish();
    if (stage_ == Stage::waiting) look_at_idle();
  }
  ended_programs_.clear();
  pumping_ = false;
  if (stage_ == Stage::over || !moved) return;
  // There is more to do, and no edge will say so.
  for (Side* side : {&client_, static_cast<Side*>(current_)})
    if (side != nullptr && side->watched) (void)inbound_.host().sockets().change(side->fd.get(), watched_events, side);
}

// ---- client to program

bool HttpSplit::from_client() {
  if (stage_ == Stage::streaming) return false;
  if (stage_ == Stage::draining || stage_ == Stage::finishing) {
    const bool moved = read(client_);
    client_.in.clear();
    if (client_.ended && stage_ == Stage::draining) end(false);
    return moved && stage_ != Stage::over;
  }
  if (stage_ == Stage::exchange && request_over_) {
    // What comes now is the next request, which waits in the kernel; but an end is news to the program.
    if (!client_.hung_up || client_.ended || !client_.in.empty()) return false;
    char next;
    const ssize_t got = recv(client_.fd.get(), &next, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return false;
    client_.ended = true;
    if (got < 0) end(true);
    return stage_ != Stage::over;
  }
  if (current_ != nullptr && current_->out.size() >= most_pending) return false;
  const bool moved = read(client_);
  if (client_.failed) {
    end(true);
    return false;
  }
  const bool used = take_requests();
  if (stage_ == Stage::over) return false;
  if (client_.ended && client_.in.empty() && stage_ == Stage::waiting) {
    finish();
    return stage_ != Stage::over;
  }
  return moved || used;
}

bool HttpSplit::take_requests() {
  HttpHead head;
  std::size_t used = 0;
  bool more = true;
  while (more && (stage_ == Stage::waiting || stage_ == Stage::exchange)) {
    if (stage_ == Stage::exchange && (request_over_ || current_->out.size() >= most_pending)) break;
    if (used == client_.in.size() && stage_ == Stage::waiting) break;
    const auto event = requests_.next(std::string_view(client_.in).substr(used), head);
    used += event.used;
    switch (event.what) {
      case HttpMessages::What::head: more = begin_exchange(head); break;
      case HttpMessages::What::body: current_->out.append(event.bytes); break;
      case HttpMessages::What::trailers:
        current_->out.append(edit_trailers(head, {peer_, trusted_, inbound_.settings().headers, inbound_.ranges()}));
        break;
      case HttpMessages::What::end: request_over_ = true; break;
      case HttpMessages::What::more: more = false; break;
      case HttpMessages::What::flaw: refuse(requests_.flaw()); return true;
    }
  }
  if (stage_ == Stage::over) return true;
  client_.in.erase(0, used);
  if (stage_ == Stage::waiting && !requests_.idle() && !in_room_) {
    inbound_.room().enter(*this, peer_.address);
    in_room_ = true;
  }
  return used != 0;
}

bool HttpSplit::begin_exchange(const HttpHead& head) {
  const HttpFraming framing = framing_of(head);
  InboundRequest request = edit_request(head, {peer_, trusted_, inbound_.settings().headers, inbound_.ranges()});
  asked_ = HttpAsked::of(head);
  asked_.upgrade = asked_.upgrade && request.upgrades;
  last_ = !head.persists();
  requests_.body_follows(framing);
  if (framing.flaw != HttpFlaw::none) {
    refuse(framing.flaw);
    return false;
  }
  inbound_.room().leave(*this);
  in_room_ = false;
  ++inbound_.count().requests;
  current_ = program_for(request.client);
  if (current_ == nullptr) return false;
  current_->out += request.text;
  request_over_ = response_begun_ = response_over_ = interim_ = false;
  stage_ = Stage::exchange;
  return true;
}

HttpSplit::Program* HttpSplit::program_for(const Endpoint& client) {
  for (const auto& each : programs_)
    if (each->client == client && !each->hung_up && !each->ended && !each->shut) return each.get();
  make_room();
  InboundDoors::Opened door = inbound_.doors().open(local_, DoorKind::direct, client, peer_);
  if (!door.socket) {
    // Nobody listens there any more, or no port or descriptor is left: the client sees what it would see of the kernel.
    ++inbound_.count().gone;
    end(true);
    return nullptr;
  }
  auto program = std::make_unique<Program>(*this, std::move(door.socket));
  program->client = client;
  program->port = door.port;
  program->used_at = uv_now(inbound_.host().loop());
  Program* const at = program.get();
  programs_.push_back(std::move(program));
  if (!watch(*at)) {
    end(true);
    return nullptr;
  }
  return at;
}

void HttpSplit::make_room() {
  if (programs_.size() < most_programs) return;
  Program* oldest = nullptr;
  for (const auto& each : programs_)
    if (each.get() != current_ && (oldest == nullptr || each->used_at < oldest->used_at)) oldest = each.get();
  if (oldest != nullptr) let_go(*oldest, false);
}

// ---- program to client

bool HttpSplit::from_program() {
  if (stage_ != Stage::exchange || response_over_ || client_.out.size() >= most_pending) return false;
  const bool moved = read(*current_);
  if (moved && current_->port != 0 && !current_->in.empty()) {
    inbound_.doors().forget(current_->port);
    current_->port = 0;
  }
  const bool used = take_responses();
  if (stage_ == Stage::exchange && current_->ended && current_->in.empty() && !response_over_) program_ended();
  return (moved || used) && stage_ != Stage::over;
}

bool HttpSplit::take_responses() {
  HttpHead head;
  std::size_t used = 0;
  bool more = true;
  while (more && stage_ == Stage::exchange && !response_over_ && client_.out.size() < most_pending) {
    const auto event = current_->responses.next(std::string_view(current_->in).substr(used), head);
    used += event.used;
    switch (event.what) {
      case HttpMessages::What::head: {
        const HttpFraming framing = framing_of(head, asked_);
        const std::string text = response_text(head);
        const bool persists = head.persists();
        interim_ = is_interim(head.status());
        current_->responses.body_follows(framing);
        if (framing.flaw != HttpFlaw::none) {
          fail_response("502 Bad Gateway");
          return true;
        }
        client_.out += text;
        response_begun_ = response_begun_ || !interim_;
        if (framing.kind == HttpFraming::Kind::tunnel) {
          current_->in.erase(0, used);
          stage_ = Stage::streaming;
          ++inbound_.count().upgraded;
          return true;
        }
        last_ = last_ || (!interim_ && (!persists || framing.kind == HttpFraming::Kind::until_close));
        break;
      }
      case HttpMessages::What::body: client_.out.append(event.bytes); break;
      case HttpMessages::What::trailers:
        for (const HttpField& field : head.fields())
          client_.out.append(field.name).append(": ").append(field.value).append("\r\n");
        client_.out += "\r\n";
        break;
      case HttpMessages::What::end:
        if (!interim_) response_over_ = true;
        interim_ = false;
        break;
      case HttpMessages::What::more: more = false; break;
      case HttpMessages::What::flaw: fail_response("502 Bad Gateway"); return true;
    }
  }
  current_->in.erase(0, used);
  return used != 0;
}

// Before the response was whole, by what had come of it.
void HttpSplit::program_ended() {
  if (!current_->failed && current_->responses.peer_closed() == HttpMessages::What::end) {
    response_over_ = last_ = true;
    return;
  }
  if (response_begun_ || current_->failed) return end(true);
  // Closed without a word: so does the client's connection.
  finish();
}

void HttpSplit::end_exchange() {
  // The program must see that its client is gone, or will say no more.
  if (client_.ended && current_->out.empty() && !current_->shut) {
    current_->shut = true;
    shutdown(current_->fd.get(), SHUT_WR);
  }
  if (!response_over_) return;
  if (!request_over_) {
    // The program has answered before it has read all. It may still read; when it does not, the rest is for nobody.
    if (current_->ended || current_->shut || last_) finish();
    return;
  }
  current_->used_at = uv_now(inbound_.host().loop());
  Program& done = *current_;
  current_ = nullptr;
  stage_ = Stage::waiting;
  if (done.ended || done.shut || last_) let_go(done, false);
  if (last_ || (client_.ended && client_.in.empty())) finish();
}

// Connections on which nothing is asked: what comes there can only be the end.
void HttpSplit::look_at_idle() {
  bool closed = false;
  for (std::size_t i = 0; i < programs_.size();) {
    Program& each = *programs_[i];
    if (read(each) || each.ended) {
      closed = true;
      let_go(each, false);
    } else {
      ++i;
    }
  }
  if (closed && programs_.empty() && stage_ == Stage::waiting && requests_.idle() && client_.in.empty()) finish();
}

void HttpSplit::let_go(Program& program, bool broken) {
  if (program.watched) inbound_.host().sockets().forget(&program);
  program.watched = false;
  if (program.port != 0) inbound_.doors().take_back(std::move(program.fd), program.port);
  else if (broken) reset_connection(std::move(program.fd));
  else close_without_trace(std::move(program.fd));
  program.port = 0;
  if (current_ == &program) current_ = nullptr;
  const auto at = std::find_if(programs_.begin(), programs_.end(),
                               [&](const std::unique_ptr<Program>& each) { return each.get() == &program; });
  if (at == programs_.end()) return;
  ended_programs_.push_back(std::move(*at));
  programs_.erase(at);
}

// ---- ends

void HttpSplit::refuse(HttpFlaw flaw) {
  ++inbound_.count().not_http;
  char text[Endpoint::text_size];
  LogLine(inbound_.log(), Level::info, "request_refused").add("peer", peer_.format(text)).add("reason", text_of(flaw));
  // Not even the begin of a request may look whole to the program.
  if (current_ != nullptr) let_go(*current_, true);
  fail_response("400 Bad Request");
}

void HttpSplit::fail_response(const char* status) {
  if (response_begun_ && !response_over_ && stage_ == Stage::exchange) return end(true);
  const std::string body = std::string(status) + "\n";
  client_.out.append("HTTP/1.1 ").append(status).append("\r\nContent-Type: text/plain\r\nContent-Length: ");
  client_.out.append(std::to_string(body.size())).append("\r\nConnection: close\r\n\r\n").append(body);
  finish();
}

void HttpSplit::finish() {
  while (!programs_.empty()) let_go(*programs_.back(), false);
  stage_ = Stage::finishing;
  client_.in.clear();
  inbound_.room().enter(*this, peer_.address);
  in_room_ = true;
}

void HttpSplit::step_finish() {
  if (!client_.out.empty()) return;
  // Nothing unread that could make the kernel reset the connection, and with it what it still has to deliver.
  if (client_.ended || client_.shut || !client_.readable) return end(false);
  shutdown(client_.fd.get(), SHUT_WR);
  client_.shut = true;
  stage_ = Stage::draining;
}

void HttpSplit::step_stream() {
  // What had come before the switch, from either side, goes first.
  if (!client_.in.empty()) current_->out += std::exchange(client_.in, {});
  if (!current_->in.empty()) client_.out += std::exchange(current_->in, {});
  if (!client_.out.empty() || !current_->out.empty()) return;
  unwatch(client_);
  unwatch(*current_);
  const linger as_usual{};
  setsockopt(current_->fd.get(), SOL_SOCKET, SO_LINGER, &as_usual, sizeof as_usual);
  UniqueFd program = std::move(current_->fd), client = std::move(client_.fd);
  let_go(*current_, false);
  inbound_.host().on_stream(std::move(program), std::move(client));
  end(false);
}

void HttpSplit::end(bool broken) {
  if (stage_ == Stage::over) return;
  stage_ = Stage::over;
  inbound_.room().leave(*this);
  while (!programs_.empty()) let_go(*programs_.back(), broken);
  unwatch(client_);
  if (broken) reset_connection(std::move(client_.fd));
  client_.fd.reset();
  inbound_.on_split_over(*this);
}

}  // namespace towpath
