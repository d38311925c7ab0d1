#include "agent/inbound_held.h"

#include <cerrno>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "proto/proxy_header.h"

namespace towpath {

namespace {

// A TLS record that holds the begin of a ClientHello (RFC 8446 4 and 5.1), as strict as eleven bytes allow: anything less
// sure could be a request to a lenient server. One: yes. Zero: not yet. Minus one: no.
int looks_like_client_hello(const unsigned char* in, std::size_t size) noexcept {
  constexpr std::size_t wanted = 11;
  const auto fits = [&](std::size_t at) {
    switch (at) {
      case 0: return in[at] == 0x16;
      case 1:
      case 9: return in[at] == 3;
      case 2:
      case 10: return in[at] <= 4;
      case 3: return in[at] <= 0x40;
      case 5: return in[at] == 1;
      case 6: return in[at] == 0;
      default: return true;
    }
  };
  for (std::size_t at = 0; at < size && at < wanted; ++at)
    if (!fits(at)) return -1;
  return size >= wanted ? 1 : 0;
}

}  // namespace

HeldConnection::HeldConnection(Inbound& inbound, UniqueFd socket, std::uint64_t listener, const Endpoint& peer,
                               const Endpoint& local, InboundRule rule)
    : inbound_(inbound),
      socket_(std::move(socket)),
      listener_(listener),
      peer_(peer),
      local_(local),
      rule_(rule),
      trusted_(trusts(inbound.ranges(), peer.address)),
      stage_(rule.proxy != ProxyProtocol::off && trusted_ ? Stage::proxy_header : Stage::first_bytes) {}

HeldConnection::~HeldConnection() { let_go(); }

void HeldConnection::start() {
  inbound_.room().enter(*this, peer_.address);
  look();
  if (stage_ == Stage::over) return;
  watched_ = inbound_.host().sockets().watch(socket_.get(), EPOLLIN | EPOLLRDHUP | EPOLLET, this);
  if (!watched_) close(&InboundCounters::gone);
}

void HeldConnection::look() {
  if (stage_ == Stage::proxy_header) look_for_header();
  if (stage_ == Stage::first_bytes) look_for_tls();
}

void HeldConnection::look_for_header() {
  std::byte bytes[ProxyHeader::longest];
  const ssize_t got = recv(socket_.get(), bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // A health check that connects and closes is nobody's business.
  if (got < 0 || (got == 0 && rule_.proxy == ProxyProtocol::require)) return close(&InboundCounters::gone);
  if (got == 0) return header_done({});
  const ProxyHeader header = read_proxy_header({bytes, static_cast<std::size_t>(got)});
  switch (header.state) {
    case ProxyHeader::State::incomplete: return;
    case ProxyHeader::State::whole:
      if (recv(socket_.get(), bytes, header.size, MSG_DONTWAIT) != static_cast<ssize_t>(header.size))
        return close(&InboundCounters::gone);
      return header_done(header.client);
    case ProxyHeader::State::absent:
      if (rule_.proxy == ProxyProtocol::optional) return header_done({});
      break;
    case ProxyHeader::State::malformed: break;
  }
  char text[Endpoint::text_size];
  LogLine(inbound_.log(), Level::warning, "proxy_header_refused")
      .add("peer", peer_.format(text))
      .add("reason", header.state == ProxyHeader::State::absent ? "there is none" : header.reason);
  close(&InboundCounters::malformed);
}

void HeldConnection::header_done(const Endpoint& client) {
  client_ = client;
  if (client.address) trusted_ = trusts(inbound_.ranges(), client.address);
  if (!rule_.http) return surface();
  stage_ = Stage::first_bytes;
}

void HeldConnection::look_for_tls() {
  if (!rule_.http) return surface();  // the front end could not tell who is trusted
  unsigned char bytes[16];
  const ssize_t got = recv(socket_.get(), bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return close(&InboundCounters::gone);
  const int hello = looks_like_client_hello(bytes, static_cast<std::size_t>(got));
  if (hello == 0) return;
  if (hello > 0) {
    if (inbound_.count().tls++ == 0)
      LogLine(inbound_.log(), Level::warning, "tls_passed")
          .add("port", local_.port)
          .add("reason", "clients speak TLS here: their headers can be neither read nor removed")
          .add("hint", "end TLS in front of the program, use proxyProtocol, or list the port as mode: raw");
    return surface();
  }
  const Endpoint logical = client_.address ? client_ : peer_;
  stage_ = Stage::over;
  inbound_.on_http(*this, let_go(), logical, local_, trusted_);
}

void HeldConnection::on_waited_too_long() {
  if (stage_ == Stage::proxy_header && rule_.proxy == ProxyProtocol::optional && !rule_.http) {
    // A protocol in which the server speaks first. What has come of a header stays unread, and is data.
    std::byte begin[16];
    const ssize_t got = recv(socket_.get(), begin, sizeof begin, MSG_PEEK | MSG_DONTWAIT);
    const std::size_t size = got > 0 ? static_cast<std::size_t>(got) : 0;
    if (sniff_proxy_header({begin, size}) == Sniff::need_more) return surface();
  }
  close(&InboundCounters::timed_out);
}

void HeldConnection::surface() {
  stage_ = Stage::over;
  Inbound::Ready ready;
  ready.client = client_;
  ready.peer = peer_;
  ready.listener = listener_;
  ready.local = local_;
  ready.socket = let_go();
  inbound_.on_ready(*this, std::move(ready));
}

void HeldConnection::close(std::uint64_t InboundCounters::*why) {
  stage_ = Stage::over;
  ++(inbound_.count().*why);
  let_go();
  inbound_.on_held_over(*this);
}

UniqueFd HeldConnection::let_go() {
  inbound_.room().leave(*this);
  if (watched_) inbound_.host().sockets().drop(socket_.get(), this);
  watched_ = false;
  return std::move(socket_);
}

}  // namespace towpath
