#include "agent/inbound_held.h"

#include <cerrno>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "proto/proxy_header.h"

namespace towpath {

int looks_like_client_hello(std::span<const std::byte> in) noexcept {
  constexpr std::size_t wanted = 11;
  for (std::size_t at = 0; at < in.size() && at < wanted; ++at) {
    const auto byte = std::to_integer<unsigned>(in[at]);
    bool fits = true;
    switch (at) {
      case 0: fits = byte == 0x16; break;  // handshake
      case 1:
      case 9: fits = byte == 3; break;
      case 2:
      case 10: fits = byte <= 4; break;
      case 3: fits = byte <= 0x40; break;  // of a record's length
      case 5: fits = byte == 1; break;     // client_hello
      case 6: fits = byte == 0; break;     // of its length
      default: break;
    }
    if (!fits) return -1;
  }
  return in.size() >= wanted ? 1 : 0;
}

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
  if (!watched_) close(&InboundCounters::gone, "it cannot be watched");
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
  if (got < 0 || (got == 0 && rule_.proxy == ProxyProtocol::require))
    return close(&InboundCounters::gone, "the client has gone");
  if (got == 0) return header_done({});
  const ProxyHeader header = read_proxy_header({bytes, static_cast<std::size_t>(got)});
  switch (header.state) {
    case ProxyHeader::State::incomplete: return;
    case ProxyHeader::State::whole:
      if (recv(socket_.get(), bytes, header.size, MSG_DONTWAIT) != static_cast<ssize_t>(header.size))
        return close(&InboundCounters::gone, "the client has gone");
      return header_done(header.client);
    case ProxyHeader::State::absent:
      if (rule_.proxy == ProxyProtocol::optional) return header_done({});
      break;
    case ProxyHeader::State::malformed: break;
  }
  close(&InboundCounters::malformed, header.reason.empty() ? "no PROXY header" : header.reason);
}

void HeldConnection::header_done(const Endpoint& client) {
  client_ = client;
  if (client.address) trusted_ = trusts(inbound_.ranges(), client.address);
  if (!rule_.http) return surface();
  stage_ = Stage::first_bytes;
}

void HeldConnection::look_for_tls() {
  if (!rule_.http) return surface();  // the front end could not tell who is trusted
  std::byte bytes[16];
  const ssize_t got = recv(socket_.get(), bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return close(&InboundCounters::gone, "the client has gone");
  const int hello = looks_like_client_hello({bytes, static_cast<std::size_t>(got)});
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
  look();  // its last word may have come with the bell
  if (stage_ == Stage::over) return;
  if (stage_ == Stage::proxy_header && rule_.proxy == ProxyProtocol::optional && !rule_.http) {
    // A protocol in which the server speaks first. What has come of a header stays unread, and is data.
    std::byte begin[16];
    const ssize_t got = recv(socket_.get(), begin, sizeof begin, MSG_PEEK | MSG_DONTWAIT);
    const std::size_t size = got > 0 ? static_cast<std::size_t>(got) : 0;
    if (sniff_proxy_header({begin, size}) == Sniff::need_more) return surface();
  }
  close(&InboundCounters::timed_out, "nothing in time, or too many wait");
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

void HeldConnection::close(std::uint64_t InboundCounters::*why, std::string_view reason) {
  char text[Endpoint::text_size];
  // A client that leaves is nobody's business: health checks do nothing else.
  LogLine(inbound_.log(), why == &InboundCounters::malformed ? Level::warning : Level::debug, "connection_closed")
      .add("peer", peer_.format(text))
      .add("port", local_.port)
      .add("reason", reason);
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
