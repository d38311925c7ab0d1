// The agent: one process, one thread, one libuv loop for a tree of programs. It decides, shakes hands with proxies on
// the programs' own sockets, and lets go. Holds no descriptor of a tunnel that stands.
#pragma once

#include <list>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/acceptor.h"
#include "agent/attempt.h"
#include "agent/datagrams.h"
#include "agent/death_bell.h"
#include "agent/dns_stub.h"
#include "agent/failure_text.h"
#include "agent/inbound_desk.h"
#include "agent/kept.h"
#include "agent/log.h"
#include "agent/metrics_door.h"
#include "agent/names.h"
#include "agent/page_writer.h"
#include "agent/plain_relays.h"
#include "agent/proxy_pool.h"
#include "agent/quiet_door.h"
#include "agent/relay.h"
#include "agent/reload_state.h"
#include "agent/ruling.h"
#include "agent/silent_askers.h"
#include "agent/stats.h"
#include "agent/supervisor/supervisor.h"
#include "agent/tls_clients.h"

namespace towpath {

class Agent final : public Conversation::Host, public AttemptHost, public Answerer, public Judge, public Inbound::Host {
 public:
  // Borrows `kept`. Null with the reason when something the agent needs is not there.
  [[nodiscard]] static std::unique_ptr<Agent> start(uv_loop_t* loop, std::shared_ptr<const Policy> policy, Kept& kept,
                                                    const Log& log, std::string& why);
  ~Agent();

  // Has any process that ever asked not ended yet, any that inherited a relayed tunnel, or any supervised tree?
  [[nodiscard]] bool any_asker_alive();
  // For `status`: the program that this agent was started with, when there is one.
  void set_program(pid_t pid) noexcept { program_ = pid; }
  // One of them that is still there; 0: none.
  [[nodiscard]] pid_t any_asker();

  [[nodiscard]] const Policy& policy() const noexcept { return *policy_; }
  // Whether programs of this tree ask about what they accept.
  [[nodiscard]] bool inbound_possible() const noexcept { return inbound_.on(); }
  // Valid for the next connect, lookup and accept of every process of the tree. False, and nothing has changed: its TLS
  // files cannot be used. The range of synthetic addresses stays what it was at the start.
  [[nodiscard]] bool set_policy(std::shared_ptr<const Policy> next, std::string& why);
  void note_reload(bool applied, std::string problem);
  [[nodiscard]] const ReloadState& reloads() const noexcept { return reloads_; }

 private:
  Agent(uv_loop_t* loop, std::shared_ptr<const Policy> policy, Kept& kept, const Log& log, PageWriter page,
        SyntheticNames names);
  bool open(std::string& why);
  void publish_policy();
  void accept();
  void sweep();

  // Conversation::Host
  void on_ask(Conversation& talk, const wire::Message& ask, std::vector<UniqueFd> descriptors) override;
  void on_silent(Conversation& talk) override { silent_.add(talk); }
  void on_over(Conversation& talk) override;
  void on_full() override;
  bool may_ask(const Asker& asker, const wire::Message& ask) const override;
  std::uint64_t page_id() const override { return page_.page().id; }
  // Of all hosts
  uv_loop_t* loop() override { return loop_; }
  SocketWatch& sockets() override { return sockets_; }
  // Inbound::Host
  void on_stream(UniqueFd program, UniqueFd client) override {
    on_relay(std::move(program), std::move(client), nullptr, {});
  }
  // AttemptHost
  Lookup& lookup() override { return lookup_; }
  RelayDoor& door() override { return door_; }
  QuietDoor& quiet_door() override { return quiet_door_; }
  std::shared_ptr<TlsClient> tls(const std::shared_ptr<const Policy>& policy, std::string& why) override;
  void on_relay(UniqueFd program, UniqueFd proxy, std::unique_ptr<TlsChannel> tls, Relay::First first) override;
  PlainRelays& plain() override { return plain_; }
  ProxyPool& proxies() override { return proxies_; }
  void on_passed_over(const ProxyUrl& proxy, const Error& error) override {
    ++stats_.of(&proxy).failures[static_cast<std::size_t>(error.code)];
  }
  void on_proxy_found(const Policy& policy, const std::vector<Endpoint>& endpoints) override;
  void on_verdict(Attempt& attempt, SocketState state, const Error& error) override;
  void on_let_go(const Attempt& attempt) override {
    const std::uint64_t cookie = attempt.order().ask.cookie;
    attempt.abandoned() ? page_.forget(cookie) : page_.let_go(cookie);
  }
  bool still_held(const Attempt& attempt) override { return supervisor_.still_held(attempt); }
  Endpoint closed_port(int domain, bool v6_only) override;
  int death_bell() override { return bell_.ear(); }
  // Judge
  Ruling judge_connect(const wire::ConnectAsk& ask, UniqueFd& socket, const Asker& asker) override;
  Attempt& native_connect(const wire::ConnectAsk& ask, UniqueFd socket, const Asker& asker) override;
  Attempt* find(std::uint64_t cookie) override;
  bool any_attempt() const override { return !attempts_.empty(); }
  // Answerer, for those who watch
  void on_message(Conversation& talk, const wire::Message&) override { talk.end(); }
  void on_asker_gone(Conversation&) override {}

  void on_connect(Conversation& talk, const wire::ConnectAsk& ask, std::vector<UniqueFd> descriptors);
  void on_epoll(Conversation& talk, const wire::EpollAsk& ask, std::vector<UniqueFd> descriptors);
  void on_closing(Conversation& talk, const wire::ClosingAsk& ask);
  void on_watch(Conversation& talk, const wire::WatchAsk& ask);
  void on_name(Conversation& talk, const wire::NameAsk& ask);
  void on_reverse(Conversation& talk, const IpAddress& address);
  void on_datagram(Conversation& talk, const wire::DatagramAsk& ask, std::vector<UniqueFd> descriptors);
  void on_query(Conversation& talk, std::span<const std::byte> query);
  void on_supervise(Conversation& talk, std::uint32_t flavour, std::vector<UniqueFd> descriptors);
  Ruling lead_to_dns(const wire::ConnectAsk& ask, int fd);
  void on_status(Conversation& talk, const wire::StatusAsk& ask);
  Attempt& begin(const wire::ConnectAsk& ask, Attempt::Order order);
  void tell_watchers(std::uint64_t cookie);
  // agent_report.cpp: counters, the log, `status`
  Ruling refuse(const Asker& asker, const std::string& target, const ProxyUrl* proxy, const Error& error,
                const std::string& rule = {});
  void tell(const Attempt& attempt, SocketState state, const Error& error);
  void tell_direct(const Asker& asker, const std::string& target, const std::string& rule);
  void log_connect(const Attempt& attempt, const Error& error);
  void log_failure(const Asker& asker, const Failure& failure);
  void add_times(LogLine& line, const Attempt& attempt) const;
  void watch_log();
  void note_no_net(const Asker& asker, const wire::NoNetAsk& ask);
  [[nodiscard]] std::string status_text(wire::StatusFormat format);
  [[nodiscard]] std::string metrics_text();
  struct Watcher {
    Conversation* talk;
    std::vector<std::uint64_t> cookies;
  };

  uv_loop_t* loop_;
  std::shared_ptr<const Policy> policy_;
  Kept& kept_;
  const Log& log_;
  PageWriter page_;
  DeathBell bell_;
  SocketWatch sockets_;
  Lookup lookup_;
  ThisHost host_;
  NameService names_;
  DnsStub dns_;
  Datagrams datagrams_;
  RelayDoor door_;
  QuietDoor quiet_door_;
  Inbound inbound_;
  InboundDesk desk_;
  TlsClients tls_;
  Acceptor listener_;
  UvHandle<uv_check_t> sweeper_;
  UvTimer pulse_;
  ProxyPool proxies_;
  std::vector<Endpoint> proxy_endpoints_;
  UniqueFd closed_v4_, closed_v6_;  // bound and never listening: their ports refuse for as long as the agent lives
  Endpoint closed_v4_port_, closed_v6_port_;
  std::unordered_map<Conversation*, std::unique_ptr<Conversation>> conversations_;
  SilentAskers silent_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Attempt>> attempts_;  // by socket cookie
  std::list<Watcher> watchers_;
  std::unordered_map<std::uint64_t, Conversation*> queries_;  // who waits for the answer to a question
  std::uint64_t last_query_ = 0;
  std::unordered_set<pid_t> askers_;
  // Ended during a callback of their own; freed when the loop has left it.
  std::vector<std::unique_ptr<Conversation>> ended_conversations_;
  std::vector<std::unique_ptr<Attempt>> ended_attempts_;
  std::unordered_map<Relay*, std::unique_ptr<Relay>> relays_;
  std::vector<std::unique_ptr<Relay>> ended_relays_;
  PlainRelays plain_;
  Stats stats_;
  pid_t program_ = 0;
  UvTimer log_watch_;
  std::size_t tunnels_open_ = 0;  // as of `tunnels_counted_ms_`
  std::uint64_t tunnels_counted_ms_ = 0;
  MetricsDoor metrics_;
  Supervisor supervisor_;
  ReloadState reloads_;
  std::string no_net_;  // why a tree stands on none; empty: no tree has said so
};

}  // namespace towpath
