#include "agent/dns_stub.h"

#include <algorithm>
#include <cerrno>

#include <netinet/in.h>
#include <sys/socket.h>

#include "config/decide.h"

namespace towpath {

namespace {

constexpr std::uint16_t dns_port = 53;
constexpr std::uint32_t no_door = ~0u;
constexpr int datagrams_per_turn = 64;

Endpoint loopback(int domain, std::uint16_t port) noexcept {
  return {domain == AF_INET ? IpAddress::v4(INADDR_LOOPBACK) : IpAddress::parse("::1"), port};
}

}  // namespace

// One connection of a program: questions with a length in front, answers the same way, in any order (RFC 7766).
class DnsStub::Stream {
 public:
  Stream(DnsStub& stub, std::uint64_t key, UniqueFd fd, const Endpoint& asked)
      : stub_(stub), key_(key), asked_(asked), fd_(std::move(fd)) {}

  bool start() {
    if (!poll_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(stub_.loop_, handle, fd_.get()); }) ||
        !timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(stub_.loop_, handle); }))
      return false;
    wait();
    return true;
  }

  void reply(std::span<const std::byte> message) {
    --waiting_;
    if (!message.empty()) {
      out_.push_back(static_cast<std::byte>(message.size() >> 8));
      out_.push_back(static_cast<std::byte>(message.size() & 0xff));
      out_.insert(out_.end(), message.begin(), message.end());
    }
    if (!reading_) proceed();
  }

 private:
  static constexpr std::size_t most_waiting = 16;
  static constexpr std::size_t most_out = 256 * 1024;
  static constexpr std::uint64_t idle_ms = 30'000;

  void wait() {
    const bool more = !ended_ && waiting_ < most_waiting && out_.size() < most_out;
    const int events = (more ? UV_READABLE : 0) | (out_.empty() ? 0 : UV_WRITABLE);
    if (events == 0) {
      uv_poll_stop(poll_.get());
    } else {
      uv_poll_start(poll_.get(), events, [](uv_poll_t* handle, int status, int) {
        auto& self = *static_cast<Stream*>(handle->data);
        if (status < 0) self.broken_ = true;
        self.read();
      });
    }
    uv_timer_start(
        timer_.get(),
        [](uv_timer_t* handle) {
          auto& self = *static_cast<Stream*>(handle->data);
          self.stub_.over(self);
        },
        idle_ms, 0);
  }

  void read() {
    reading_ = true;
    std::byte buffer[4096];
    while (!broken_ && !ended_ && waiting_ < most_waiting && out_.size() < most_out) {
      const ssize_t size = recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (size < 0) broken_ = true;
      if (size <= 0) ended_ = true;
      if (size > 0) in_.insert(in_.end(), buffer, buffer + size);
      take_questions();
    }
    reading_ = false;
    proceed();
  }

  void take_questions() {
    std::size_t at = 0;
    while (in_.size() - at >= 2) {
      const std::size_t size = std::to_integer<std::size_t>(in_[at]) << 8 | std::to_integer<std::size_t>(in_[at + 1]);
      if (in_.size() - at - 2 < size) break;
      ++waiting_;
      stub_.answers_.answer({in_.data() + at + 2, size}, asked_, dns::max_message,
                            [&stub = stub_, key = key_](std::span<const std::byte> message) {
                              const auto found = stub.streams_.find(key);
                              if (found != stub.streams_.end()) found->second->reply(message);
                            });
      at += 2 + size;
    }
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  // May free the object: nothing may follow a call.
  void proceed() {
    while (!broken_ && !out_.empty()) {
      const ssize_t size = send(fd_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (size < 0) broken_ = true;
      else out_.erase(out_.begin(), out_.begin() + size);
    }
    if (broken_ || (ended_ && waiting_ == 0 && out_.empty())) return stub_.over(*this);
    wait();
  }

  friend class DnsStub;
  DnsStub& stub_;
  std::uint64_t key_;
  Endpoint asked_;
  std::vector<std::byte> in_, out_;
  std::size_t waiting_ = 0;
  bool ended_ = false, broken_ = false, reading_ = false;
  UniqueFd fd_;
  UvPoll poll_;  // closed before the descriptor
  UvTimer timer_;
};

DnsStub::DnsStub(uv_loop_t* loop, const std::shared_ptr<const Policy>& policy, ThisHost& host, NameService& names,
                 Lookup& lookup, PageWriter& page, const Log& log)
    : loop_(loop),
      policy_(policy),
      names_(names),
      page_(page),
      log_(log),
      answers_(loop, policy, host, names, lookup, log, [&page] { page.raise_epoch(); }) {
  // What an agent before this one told the programs stays true.
  const Page& before = page_.page();
  const std::uint32_t count = std::min(before.dns_doors.load(), page_dns_doors);
  for (std::uint32_t at = 0; at < count; ++at) {
    const DnsDoor& each = before.doors[at];
    const std::uint32_t ports = each.ports.load();
    doors_.push_back(std::make_unique<Door>());
    if (ports != 0) open_door(at, {page_address(each.address, each.address_size, each.scope), each.port}, ports);
  }
  if (before.dns_streams.load() != 0) (void)stream_door({}, AF_INET, false);
}

DnsStub::~DnsStub() = default;

bool DnsStub::open_side(Side& side, int kind, int domain, std::uint16_t port) {
  side.poll.reset();
  side.acceptor.close();
  side.own = {};
  sockaddr_storage address;
  socklen_t size = loopback(domain, port).to(address, domain);
  side.fd.reset(socket(domain, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!side.fd) return false;
  const int on = 1;
  if (domain == AF_INET6) setsockopt(side.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  auto* at = reinterpret_cast<sockaddr*>(&address);
  if (bind(side.fd.get(), at, size) != 0) return port != 0 && open_side(side, kind, domain, 0);
  if (kind == SOCK_STREAM && listen(side.fd.get(), SOMAXCONN) != 0) return false;
  size = sizeof address;
  if (getsockname(side.fd.get(), at, &size) != 0) return false;
  side.own = Endpoint::from(at, size);
  side.stub = this;
  const bool watched =
      kind == SOCK_STREAM
          ? side.acceptor.open(loop_, side.fd.get(), [this, &side] { accept(side); })
          : side.poll.open(&side, [&](uv_poll_t* handle) { return uv_poll_init(loop_, handle, side.fd.get()); });
  if (!watched) {
    side.own = {};
    return false;
  }
  if (kind == SOCK_DGRAM)
    uv_poll_start(side.poll.get(), UV_READABLE, [](uv_poll_t* handle, int, int) {
      auto& ready = *static_cast<Side*>(handle->data);
      ready.stub->read(ready);
    });
  return true;
}

void DnsStub::open_door(std::uint32_t at, const Endpoint& server, std::uint32_t wanted_ports) {
  Door& door = *doors_[at];
  door.server = server;
  door.generation = ++generations_;
  door.used_ms = uv_now(loop_);
  door.v4.door = door.v6.door = at;
  open_sides(door, wanted_ports);
  page_.set_door(at, server, door.ports());
}

void DnsStub::open_sides(Door& door, std::uint32_t wanted_ports) {
  if (!door.v4.own.address) open_side(door.v4, SOCK_DGRAM, AF_INET, static_cast<std::uint16_t>(wanted_ports >> 16));
  if (!door.v6.own.address) open_side(door.v6, SOCK_DGRAM, AF_INET6, static_cast<std::uint16_t>(wanted_ports & 0xffff));
}

std::uint32_t DnsStub::find_door(const Endpoint& server) {
  for (std::uint32_t at = 0; at < doors_.size(); ++at) {
    if (doors_[at]->server != server) continue;
    // There may have been no descriptor for a side of it, and they come back.
    const std::uint32_t before = doors_[at]->ports();
    open_sides(*doors_[at], 0);
    if (doors_[at]->ports() != before) page_.set_door(at, server, doors_[at]->ports());
    return at;
  }
  std::uint32_t at = no_door;
  if (doors_.empty() && !can_tell_peers())
    LogLine(log_, Level::error, "dns_unavailable")
        .add("reason", "this kernel does not tell whose socket a datagram came from, so that nobody is answered")
        .add("hint", "load the kernel module udp_diag");
  if (doors_.size() < page_dns_doors) {
    at = static_cast<std::uint32_t>(doors_.size());
    doors_.push_back(std::make_unique<Door>());
  } else {
    // The one that was idle for the longest time: an answer that still comes from it would bear the wrong address.
    for (std::uint32_t each = 0; each < doors_.size(); ++each)
      if (uv_now(loop_) - doors_[each]->used_ms >= door_idle_ms &&
          (at == no_door || doors_[each]->used_ms < doors_[at]->used_ms))
        at = each;
    if (at == no_door) return at;
  }
  open_door(at, server, 0);
  return at;
}

bool DnsStub::leads(const Endpoint& target) {
  if (target.port != dns_port || !policy_->any_proxy()) return false;
  if (std::vector<Endpoint> now = answers_.servers(); now != servers_) {
    servers_ = std::move(now);
    page_.raise_epoch();  // "direct" may have been said of one of them
  }
  if (std::find(servers_.begin(), servers_.end(), target) != servers_.end()) return true;
  if (names_.is_synthetic(target.address)) return true;
  const std::string name = names_.name_of(target.address);
  return decide(any_port_.of(policy_), {name, target.address, target.port}).kind == RouteKind::tunnel;
}

Endpoint DnsStub::datagram_door(const Endpoint& server, int domain, bool v6_only) {
  const std::uint32_t at = find_door(server);
  if (at == no_door) {
    LogLine(log_, Level::error, "dns_servers_full")
        .add("reason", "more name servers are asked at once than towpath can stand for")
        .add("limit", std::int64_t{page_dns_doors});
    return {};
  }
  Door& door = *doors_[at];
  door.used_ms = uv_now(loop_);
  const bool six = domain == AF_INET6 && (server.address.is_v6() || v6_only) && door.v6.own.address;
  return six || (domain == AF_INET6 && v6_only) ? door.v6.own : door.v4.own;
}

Endpoint DnsStub::stream_door(const Endpoint& server, int domain, bool v6_only) {
  const Side& wanted_side = domain == AF_INET6 && v6_only ? streams_v6_ : streams_v4_;
  if (!wanted_side.own.address) {  // for the first time, or there was no descriptor for it
    const std::uint32_t wanted = page_.page().dns_streams.load();
    if (!streams_v4_.own.address)
      open_side(streams_v4_, SOCK_STREAM, AF_INET, static_cast<std::uint16_t>(wanted >> 16));
    if (!streams_v6_.own.address)
      open_side(streams_v6_, SOCK_STREAM, AF_INET6, static_cast<std::uint16_t>(wanted & 0xffff));
    page_.set_dns_streams(std::uint32_t{streams_v4_.own.port} << 16 | streams_v6_.own.port);
  }
  const bool six = domain == AF_INET6 && (server.address.is_v6() || v6_only) && streams_v6_.own.address;
  return six || (domain == AF_INET6 && v6_only) ? streams_v6_.own : streams_v4_.own;
}

bool DnsStub::is_ours(PeerKind kind, const Endpoint& peer, const Endpoint& own, Endpoint* asked) {
  const std::uint64_t cookie = peer_cookie(kind, peer, own);
  const PageEntry* entry = find_socket(page_.page(), cookie);
  if (entry == nullptr || entry->state.load(std::memory_order_relaxed) != SocketState::dns) {
    LogLine line(log_, Level::debug, "dns_stranger");
    char text[Endpoint::text_size];
    line.add("peer", peer.format(text));
    return false;
  }
  if (asked != nullptr) *asked = target_of(*entry);
  return true;
}

void DnsStub::read(Side& side) {
  std::byte buffer[dns::max_message];
  for (int i = 0; i < datagrams_per_turn; ++i) {
    sockaddr_storage address;
    socklen_t size = sizeof address;
    const ssize_t got =
        recvfrom(side.fd.get(), buffer, sizeof buffer, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&address), &size);
    if (got < 0) return;  // EAGAIN; an error of an answer that could not be delivered is over with this call
    const Endpoint peer = Endpoint::from(reinterpret_cast<sockaddr*>(&address), size);
    if (!is_ours(PeerKind::datagram, peer, side.own, nullptr)) continue;
    Door& door = *doors_[side.door];
    door.used_ms = uv_now(loop_);
    answers_.answer({buffer, static_cast<std::size_t>(got)}, door.server, 0,
                    [&side, &door, generation = door.generation, address, size](std::span<const std::byte> message) {
                      if (message.empty() || door.generation != generation) return;
                      [[maybe_unused]] const auto sent =
                          sendto(side.fd.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                                 reinterpret_cast<const sockaddr*>(&address), size);
                    });
  }
}

void DnsStub::accept(Side& side) {
  for (int i = 0; i < datagrams_per_turn; ++i) {
    Endpoint peer;
    UniqueFd fd = side.acceptor.next(&peer);
    if (!fd) return;
    Endpoint asked;
    if (streams_.size() >= most_streams || !is_ours(PeerKind::stream, peer, side.own, &asked)) continue;
    const std::uint64_t key = ++last_stream_;
    auto stream = std::make_unique<Stream>(*this, key, std::move(fd), asked);
    if (stream->start()) streams_.emplace(key, std::move(stream));
  }
}

void DnsStub::over(Stream& stream) {
  const auto at = streams_.find(stream.key_);
  const std::unique_ptr<Stream> held = std::move(at->second);
  streams_.erase(at);
}

}  // namespace towpath
