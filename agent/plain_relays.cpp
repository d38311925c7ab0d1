#include "agent/plain_relays.h"

#include "agent/attempt.h"
#include "agent/proxy_pool.h"

namespace towpath {

namespace {

constexpr std::uint16_t plain_port = 80;

bool refuses_the_port(std::uint16_t status) { return status == 403 || status == 405; }

}  // namespace

PlainMemory::Answer PlainRelays::known(const ProxyUrl& proxy) { return memory_.of(proxy, uv_now(host_.loop())); }

bool PlainRelays::absolute_at_once(const Policy& policy, const ProxyUrl& proxy, std::uint16_t port) {
  if (port != plain_port || proxy.scheme == ProxyScheme::socks5 || policy.plain_http == PlainHttp::connect)
    return false;
  if (policy.plain_http == PlainHttp::absolute) return true;
  return known(proxy) == PlainMemory::Answer::refused;
}

bool PlainRelays::on_refusal(const Policy& policy, const ProxyUrl& proxy, std::uint16_t port, std::uint16_t status) {
  if (port != plain_port || proxy.scheme == ProxyScheme::socks5 || policy.plain_http != PlainHttp::automatic ||
      !refuses_the_port(status))
    return false;
  if (known(proxy) == PlainMemory::Answer::unknown)
    LogLine(log_, Level::info, "plain_http")
        .add("via", proxy.display())
        .add("reason", "the proxy refuses CONNECT to port 80 (status " + std::to_string(status) +
                           "): requests go to it in absolute form");
  memory_.refused(proxy, uv_now(host_.loop()));
  return true;
}

void PlainRelays::on_grant(const ProxyUrl& proxy, std::uint16_t port) {
  if (port == plain_port && proxy.scheme != ProxyScheme::socks5) memory_.granted(proxy, uv_now(host_.loop()));
}

void PlainRelays::relay(HttpRelay::Order order) {
  auto owned = std::make_unique<HttpRelay>(*this, std::move(order));
  HttpRelay* const at = owned.get();
  relays_.emplace(at, std::move(owned));
  at->start();
}

uv_loop_t* PlainRelays::relay_loop() { return host_.loop(); }
SocketWatch& PlainRelays::relay_sockets() { return host_.sockets(); }
std::shared_ptr<TlsClient> PlainRelays::relay_tls(const HttpRelay& relay, std::string& why) {
  return host_.tls(relay.order().policy, why);
}

bool PlainRelays::may_tunnel(const HttpRelay& relay) {
  return known(*relay.order().proxy) != PlainMemory::Answer::refused;
}

void PlainRelays::on_tunnel(const HttpRelay& relay, bool granted) {
  if (granted) memory_.granted(*relay.order().proxy, uv_now(host_.loop()));
  else memory_.refused(*relay.order().proxy, uv_now(host_.loop()));
}

void PlainRelays::on_heard(const HttpRelay& relay, std::uint64_t asked_ms) {
  host_.proxies().reached(*relay.order().proxy, asked_ms);
}

void PlainRelays::on_unheard(const HttpRelay& relay, std::uint64_t asked_ms, const std::string& cause) {
  host_.proxies().unreachable(*relay.order().proxy, cause, nullptr, asked_ms, uv_now(host_.loop()));
}

void PlainRelays::on_raw(UniqueFd program, UniqueFd link, std::unique_ptr<TlsChannel> tls, Relay::First first) {
  host_.on_relay(std::move(program), std::move(link), std::move(tls), std::move(first));
}

void PlainRelays::on_trouble(const HttpRelay& relay, std::string_view event, const std::string& reason,
                             std::string_view hint) {
  const HttpRelay::Order& order = relay.order();
  char buffer[Endpoint::text_size];
  const std::string target = order.name.empty() ? std::string(order.target.format(buffer))
                                                : order.name + ":" + std::to_string(order.target.port);
  if (event == "plain_http_host" || event == "plain_http_upgrade") {
    if (told_.size() >= most_told) told_.clear();
    if (!told_.insert(std::string(event) + " " + target).second) return;
  }
  if (!log_.wants(Level::warning)) return;
  LogLine line(log_, Level::warning, event);
  line.add("program", order.asker.program()).about(order.asker.pid).add("target", target);
  line.add("via", order.proxy->display()).add("reason", reason);
  if (!hint.empty()) line.add("hint", hint);
}

void PlainRelays::on_relay_over(HttpRelay& relay) {
  const auto at = relays_.find(&relay);
  if (at == relays_.end()) return;
  ended_.push_back(std::move(at->second));
  relays_.erase(at);
}

}  // namespace towpath
