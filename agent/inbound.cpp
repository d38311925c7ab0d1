#include "agent/inbound.h"

#include <cerrno>
#include <utility>

#include <sys/socket.h>

#include "agent/inbound_held.h"
#include "agent/inbound_http.h"
#include "proto/proxy_header.h"

namespace towpath {

namespace {

constexpr int so_netns_cookie = 71;  // Linux 5.14

std::uint64_t option64(int fd, int name) noexcept {
  std::uint64_t value = 0;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : 0;
}

Endpoint own_end(int fd) noexcept {
  sockaddr_storage address;
  socklen_t size = sizeof address;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0
             ? Endpoint::from(reinterpret_cast<sockaddr*>(&address), size)
             : Endpoint{};
}

Endpoint other_end(int fd) noexcept {
  sockaddr_storage address;
  socklen_t size = sizeof address;
  return getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0
             ? Endpoint::from(reinterpret_cast<sockaddr*>(&address), size)
             : Endpoint{};
}

// A listener in another network namespace cannot be called from here: what has that address here is somebody else.
bool in_our_network(int fd) noexcept {
  static const std::uint64_t ours = [] {
    const UniqueFd own(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return own ? option64(own.get(), so_netns_cookie) : 0;
  }();
  return option64(fd, so_netns_cookie) == ours;
}

bool everybody_trusted(TrustedRanges ranges) noexcept {
  bool v4 = false, v6 = false;
  for (const AddressRange& each : ranges)
    if (each.bits == 0) (each.address.is_v4() ? v4 : v6) = true;
  return v4 && v6;
}

std::uint8_t rule_bits(const InboundRule& rule, TrustedRanges ranges) noexcept {
  std::uint8_t out = rule.http ? inbound_http | inbound_defer : 0;
  if (rule.proxy == ProxyProtocol::require && everybody_trusted(ranges)) out |= inbound_defer;
  if (rule.proxy == ProxyProtocol::optional) out |= inbound_proxy_optional;
  if (rule.proxy == ProxyProtocol::require) out |= inbound_proxy_require;
  return out;
}

InboundRule rule_of(const InboundPage& page, std::uint16_t port) noexcept {
  const std::uint8_t bits = inbound_rule_of(page, port);
  InboundRule out;
  out.http = (bits & inbound_http) != 0;
  if ((bits & inbound_proxy_optional) != 0) out.proxy = ProxyProtocol::optional;
  if ((bits & inbound_proxy_require) != 0) out.proxy = ProxyProtocol::require;
  return out;
}

WaitingRoom::Bounds bounds_of(const ReverseSettings& settings) {
  WaitingRoom::Bounds out;
  out.patience_ms = static_cast<std::uint64_t>(settings.header_timeout.count());
  return out;
}

}  // namespace

std::uint64_t socket_cookie(int fd) noexcept { return option64(fd, SO_COOKIE); }

Inbound::Inbound(Host& host, const ReverseSettings& settings, InboundPage& page, int client_table, const Log& log)
    : host_(host),
      settings_(&settings),
      ranges_(trusted_ranges(settings)),
      page_(page),
      clients_(client_table),
      log_(log),
      on_(client_table != -1),
      doors_(page),
      room_(host.loop(), bounds_of(settings)) {
  page_.ready.store(0, std::memory_order_relaxed);
  publish_rules();
  page_.on.store(on_ ? 1 : 0, std::memory_order_release);
}

Inbound::~Inbound() {
  // They end while everything that they tell of it is still there.
  std::exchange(splits_, {}).clear();
  std::exchange(held_, {}).clear();
  waiting_.clear();
  sweep();
}

void Inbound::publish_rules() {
  write_inbound_rules(page_, [this](InboundRules& rules) noexcept {
    rules.all_are_questions = ranges_.size() > inbound_page_ranges ? 1 : 0;
    if (rules.all_are_questions == 0)
      for (const AddressRange& each : ranges_) rules.ranges[rules.range_count++] = each;
    rules.default_rule = rule_bits(default_inbound_rule(*settings_), ranges_);
    rules.by_port = settings_->all_ports ? 0 : 1;
    for (const ManagedPort& each : settings_->ports)
      if (!settings_->all_ports)
        rules.port_rules[each.port] = inbound_listed | rule_bits(inbound_rule(*settings_, each.port), ranges_);
  });
}

void Inbound::set(const ReverseSettings& settings) {
  settings_ = &settings;
  ranges_ = trusted_ranges(settings);
  room_.set_patience(bounds_of(settings).patience_ms);
  rules_changed_ = true;
  publish_rules();
}

Inbound::Verdict Inbound::judge(UniqueFd accepted, std::uint64_t listener, const Endpoint& peer) {
  Verdict out;
  const Endpoint local = own_end(accepted.get());
  const InboundDoor* door = nullptr;
  AcceptStep step = peer.address && local.address ? accept_step(page_, peer, local, door).step : AcceptStep::give;
  if (step == AcceptStep::bell) {
    std::optional<Ready> called;
    if (answer_bell(peer, called)) {
      if (called) out = {Fate::give, std::move(*called)};
      return out;
    }
    step = AcceptStep::hand_over;
  }
  // A call that was taken back before it was answered, or whose port may by now be another one's.
  if ((peer.address == local.address || step == AcceptStep::direct) && !other_end(accepted.get()).address) return out;
  out.ready.peer = peer;
  out.ready.local = local;
  out.ready.listener = listener;
  if (step == AcceptStep::direct) {
    out.ready.client = {door->client.get(), door->client_port};
    out.ready.peer = {door->peer.get(), door->peer_port};
  } else if (step == AcceptStep::read_header || step == AcceptStep::hand_over) {
    out.fate = Fate::kept;
    hold(std::move(accepted), listener);
    return out;
  }
  out.ready.socket = std::move(accepted);
  if (note(out.ready)) out.fate = Fate::give;
  return out;
}

void Inbound::hold(UniqueFd accepted, std::uint64_t listener) {
  const Endpoint peer = other_end(accepted.get()), local = own_end(accepted.get());
  const bool reachable = in_our_network(accepted.get());
  if (!on_ || !peer.address || !local.address || !reachable) {
    if (!reachable && counters_.gone == 0)
      LogLine(log_, Level::error, "connection_closed")
          .add("port", local.port)
          .add("reason", "its listener is in another network namespace than the agent, which cannot call it")
          .add("hint", "start towpath inside that namespace");
    ++counters_.gone;
    return reset_connection(std::move(accepted));
  }
  ++counters_.held;
  auto owned =
      std::make_unique<HeldConnection>(*this, std::move(accepted), listener, peer, local, rule_of(page_, local.port));
  HeldConnection* const at = owned.get();
  held_.emplace(at, std::move(owned));
  at->start();
}

void Inbound::on_held_over(HeldConnection& held) {
  const auto at = held_.find(&held);
  if (at == held_.end()) return;
  ended_held_.push_back(std::move(at->second));
  held_.erase(at);
}

void Inbound::on_ready(HeldConnection& held, Ready ready) {
  on_held_over(held);
  make_ready(std::move(ready), false);
}

void Inbound::on_http(HeldConnection& held, UniqueFd client, const Endpoint& logical_peer, const Endpoint& local,
                      bool trusted) {
  on_held_over(held);
  auto owned = std::make_unique<HttpSplit>(*this, std::move(client), logical_peer, local, trusted);
  HttpSplit* const at = owned.get();
  splits_.emplace(at, std::move(owned));
  at->start();
}

void Inbound::on_split_over(HttpSplit& split) {
  const auto at = splits_.find(&split);
  if (at == splits_.end()) return;
  ended_splits_.push_back(std::move(at->second));
  splits_.erase(at);
}

bool Inbound::note(const Ready& ready) {
  return !ready.client.address || clients_.note(socket_cookie(ready.socket.get()), ready.client, ready.peer);
}

void Inbound::make_ready(Ready ready, bool first) {
  const auto at = waiting_.insert(first ? waiting_.begin() : waiting_.end(), Waiting{});
  at->bell = std::make_unique<InboundBell>(*this, ready.local);
  at->ready = std::move(ready);
  page_.ready.fetch_add(1, std::memory_order_release);
  at->bell->ring();
}

Inbound::Ready Inbound::take(std::list<Waiting>::iterator at) {
  Ready out = std::move(at->ready);
  at->bell->withdraw();
  ended_bells_.push_back(std::move(at->bell));
  waiting_.erase(at);
  page_.ready.fetch_sub(1, std::memory_order_release);
  return out;
}

void Inbound::on_nobody(InboundBell& bell) {
  for (auto at = waiting_.begin(); at != waiting_.end(); ++at) {
    if (at->bell.get() != &bell) continue;
    ++counters_.gone;
    return reset_connection(std::move(take(at).socket));
  }
}

std::optional<Inbound::Ready> Inbound::next_ready(std::uint64_t listener) {
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (at->ready.listener != listener) {
      ++at;
      continue;
    }
    const auto here = at++;
    Ready out = take(here);
    if (note(out)) return out;
    reset_connection(std::move(out.socket));
  }
  return std::nullopt;
}

bool Inbound::answer_bell(const Endpoint& other, std::optional<Ready>& out) {
  for (auto at = waiting_.begin(); at != waiting_.end(); ++at) {
    if (at->bell->port() != other.port || !(at->bell->listener().address == other.address)) continue;
    Ready ready = take(at);
    if (note(ready)) out = std::move(ready);
    else reset_connection(std::move(ready.socket));
    return true;
  }
  return false;
}

void Inbound::delivered(Ready) { ++counters_.surfaced; }

void Inbound::give_back(Ready ready) {
  if (ready.socket) make_ready(std::move(ready), true);
}

void Inbound::sweep() {
  ended_held_.clear();
  ended_splits_.clear();
  ended_bells_.clear();
}

}  // namespace towpath
