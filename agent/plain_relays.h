// Port 80 through proxies that tunnel only 443: which proxies those are, and the relays that ask them in absolute form.
//
// A refusal of CONNECT (403, 405) makes the connect go the other way; agent/plain_memory says what is remembered of it.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/http_relay.h"
#include "agent/log.h"
#include "agent/plain_memory.h"

namespace towpath {

class AttemptHost;

class PlainRelays final : public HttpRelay::Host {
 public:
  // Borrows both. `host` is not used before the first connect.
  PlainRelays(AttemptHost& host, const Log& log) : host_(host), log_(log) {}

  // Does this connect go to the proxy in absolute form at once?
  [[nodiscard]] bool absolute_at_once(const Policy& policy, const ProxyUrl& proxy, std::uint16_t port);
  // The proxy answered CONNECT to `port` with `status`. True: the connect goes on in absolute form.
  [[nodiscard]] bool on_refusal(const Policy& policy, const ProxyUrl& proxy, std::uint16_t port, std::uint16_t status);
  void on_grant(const ProxyUrl& proxy, std::uint16_t port);

  void relay(HttpRelay::Order order);
  [[nodiscard]] bool any_relay() const noexcept { return !relays_.empty(); }
  [[nodiscard]] std::size_t relays() const noexcept { return relays_.size(); }
  // Frees what ended; not from within a callback of a relay.
  void sweep() { ended_.clear(); }

 private:
  static constexpr std::size_t most_told = 256;

  uv_loop_t* relay_loop() override;
  SocketWatch& relay_sockets() override;
  std::shared_ptr<TlsClient> relay_tls(const HttpRelay& relay, std::string& why) override;
  void on_trouble(const HttpRelay& relay, std::string_view event, const std::string& reason,
                  std::string_view hint) override;
  bool may_tunnel(const HttpRelay& relay) override;
  void on_tunnel(const HttpRelay& relay, bool granted) override;
  void on_heard(const HttpRelay& relay, std::uint64_t asked_ms) override;
  void on_unheard(const HttpRelay& relay, std::uint64_t asked_ms, const std::string& cause) override;
  void on_raw(UniqueFd program, UniqueFd link, std::unique_ptr<TlsChannel> tls, Relay::First first) override;
  void on_relay_over(HttpRelay& relay) override;

  [[nodiscard]] PlainMemory::Answer known(const ProxyUrl& proxy);

  AttemptHost& host_;
  const Log& log_;
  PlainMemory memory_;
  std::set<std::string> told_;  // what would be the same line for every connection
  std::unordered_map<HttpRelay*, std::unique_ptr<HttpRelay>> relays_;
  std::vector<std::unique_ptr<HttpRelay>> ended_;
};

}  // namespace towpath
