// One connect through one proxy, with the product's own attempt: what a program of this machine would meet.
#pragma once

#include <chrono>
#include <list>
#include <memory>
#include <string>

#include "agent/attempt.h"
#include "agent/failure_text.h"
#include "agent/plain_relays.h"
#include "agent/proxy_pool.h"
#include "agent/tls_clients.h"
#include "config/policy.h"

namespace towpath::doctor {

class Probe final : public AttemptHost {
 public:
  struct Outcome {
    Error error;        // ok: the tunnel stands
    FailureText words;  // of an error
    std::uint16_t status = 0;
    std::chrono::milliseconds took{0};
    bool absolute = false;  // no tunnel: the proxy is asked in absolute form (plainHttp)
    std::string answer;     // absolute: the first line that GET / got, "" for none
  };

  // `policy` is what the attempts go by; deadlines are taken from it.
  explicit Probe(std::shared_ptr<const Policy> policy);
  ~Probe();

  [[nodiscard]] Outcome connect(const ProxyUrl& proxy, const std::string& host, std::uint16_t port);
  // Addresses of a name, as the agent finds them.
  [[nodiscard]] std::vector<IpAddress> find(const std::string& name, LookupError& error);
  // Null with the reason when the TLS settings cannot be used.
  std::shared_ptr<TlsClient> tls(const std::shared_ptr<const Policy>& policy, std::string& why) override;
  [[nodiscard]] std::shared_ptr<TlsClient> tls(std::string& why) { return tls(policy_, why); }

 private:
  uv_loop_t* loop() override { return &loop_; }
  SocketWatch& sockets() override { return *sockets_; }
  Lookup& lookup() override { return *lookup_; }
  RelayDoor& door() override { return *door_; }
  QuietDoor& quiet_door() override { return quiet_door_; }
  ProxyPool& proxies() override { return pool_; }
  PlainRelays& plain() override { return *plain_; }
  void on_relay(UniqueFd, UniqueFd, std::unique_ptr<TlsChannel>, Relay::First) override {}  // a tunnel to be closed
  void on_proxy_found(const Policy&, const std::vector<Endpoint>&) override {}
  void on_verdict(Attempt& attempt, SocketState state, const Error& error) override;
  void on_let_go(const Attempt&) override {}
  bool still_held(const Attempt&) override { return true; }
  Endpoint closed_port(int, bool) override { return {}; }
  int death_bell() override { return -1; }

  // Runs the loop until `done`, or for the policy's patience and a second.
  template <class Done>
  bool run_until(Done done);
  std::string ask_for_root(int fd, const std::string& host);

  std::shared_ptr<const Policy> policy_;
  Log log_;
  ProxyPool pool_{log_};
  uv_loop_t loop_{};
  std::unique_ptr<SocketWatch> sockets_;
  std::unique_ptr<Lookup> lookup_;
  std::unique_ptr<RelayDoor> door_;
  QuietDoor quiet_door_;       // nobody waits at it here
  std::list<ProxyUrl> asked_;  // relays point to them
  std::unique_ptr<PlainRelays> plain_;
  TlsClients tls_;
  UvTimer tick_;
  Outcome outcome_;
  bool over_ = false;
};

}  // namespace towpath::doctor
