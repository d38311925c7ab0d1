// One connect() of a program, from the ask to the verdict.
//
//   looking_up   the proxy's name (or, for a direct verdict behind a synthetic address, the destination's)
//   dialling     the program's socket is connecting to candidates_[next_ - 1]
//   elsewhere    the asker dials for us, because connect cannot be started on its blocking socket without blocking
//   securing     the TLS handshake with an https:// proxy
//   handshaking  bytes of the proxy's protocol on the carrier; never one byte of the tunnel
//   (a refusal of port 80 may lead back to dialling, for the way in absolute form: no handshake then)
//   joining      the program's socket is connecting to the relay, or waits quietly and is connected from there (only
//   for
//                a carrier of our own)
//   (a proxy that cannot be reached leads back to looking_up, for the next one: agent/attempt_dial.cpp)
//   over         the verdict is published; only the host may touch it, to free it
//
// The carrier is the program's own socket, so that nothing of ours stays in the path. Where that cannot be (TLS needs
// an owner; some sockets cannot reach the proxy's address) it is a socket of the agent, and the program's is joined to
// it by a relay when the tunnel stands.
//
// Somebody may wait for the verdict (waiting_); for a program that does not, the verdict is in the page, in the
// program's epoll sets and in the socket itself. The order at the end is always: socket, page, epoll sets, caller. A
// socket that waits quietly (QuietDoor) is watched by its program meanwhile, with nothing of ours in between: there a
// refusal is in the page before the socket shows it.
#pragma once

#include <cstdint>
#include <string>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "agent/caller.h"
#include "agent/conversation.h"
#include "agent/deferred.h"
#include "agent/quiet_door.h"
#include "agent/relay.h"
#include "agent/relay_door.h"
#include "agent/socket_watch.h"
#include "agent/tls.h"
#include "agent/uv.h"
#include "config/decide.h"
#include "proto/page.h"
#include "proto/http_connect.h"
#include "proto/socks5.h"
#include "resolver/lookup.h"

namespace towpath {

class Attempt;
class PlainRelays;
class ProxyPool;

// What an attempt needs of the agent.
class AttemptHost {
 public:
  virtual uv_loop_t* loop() = 0;
  virtual SocketWatch& sockets() = 0;
  virtual Lookup& lookup() = 0;
  virtual RelayDoor& door() = 0;
  virtual QuietDoor& quiet_door() = 0;
  // That policy's own. Null with the reason when its TLS settings cannot be used.
  virtual std::shared_ptr<TlsClient> tls(const std::shared_ptr<const Policy>& policy, std::string& why) = 0;
  virtual void on_relay(UniqueFd program, UniqueFd proxy, std::unique_ptr<TlsChannel> tls, Relay::First first) = 0;
  virtual PlainRelays& plain() = 0;
  virtual ProxyPool& proxies() = 0;
  // Passed over for the next one of its list: the connect itself has not failed.
  virtual void on_passed_over(const ProxyUrl&, const Error&) {}
  // Addresses of a proxy: connecting to them at its port is always direct.
  virtual void on_proxy_found(const Policy& policy, const std::vector<Endpoint>& endpoints) = 0;
  virtual void on_verdict(Attempt& attempt, SocketState state, const Error& error) = 0;
  // The agent's copy of the socket is closed.
  virtual void on_let_go(const Attempt& attempt) = 0;
  // Has some process still a descriptor of the attempt's socket? For those whose closes are not told.
  virtual bool still_held(const Attempt& attempt) = 0;
  // A port of this host where nobody listens, for the family; none when the family is not there.
  virtual Endpoint closed_port(int domain, bool v6_only) = 0;
  // DeathBell's ear, -1 when there is none.
  virtual int death_bell() = 0;

 protected:
  ~AttemptHost() = default;
};

class Attempt final : public SocketWatch::Watched, public Answerer {
 public:
  struct Order {
    std::shared_ptr<const Policy> policy;  // the proxy points into it
    std::span<const ProxyUrl> proxies;     // empty: direct, behind a synthetic address
    const ProxyUrl* proxy = nullptr;       // the one of them in use; null: direct
    bool native = false;                   // direct to `ask.target` itself, as if there were no towpath
    std::string name;                      // of the destination; empty: only `ask.target` is known
    std::string rule;                      // Decision::rule, for the log
    wire::ConnectAsk ask{};
    UniqueFd socket;
    Asker asker;
  };

  Attempt(AttemptHost& host, Order order);
  void start(Caller* waiting);
  // Another caller waits for the same verdict; null: nobody does any more. Not when it is over.
  void set_caller(Caller* waiting) noexcept { waiting_ = waiting; }
  [[nodiscard]] bool has_caller() const noexcept { return waiting_ != nullptr; }
  // The program was told to connect its socket there by itself.
  [[nodiscard]] bool told_to_dial(const Endpoint& to) const noexcept { return dial_said_ && dial_said_to_ == to; }
  // The program gave up: no verdict is reported to it any more.
  void cancel();
  // Before start(), for a program whose waiting is not gated: its socket waits at the quiet door. False: it cannot.
  [[nodiscard]] bool wait_quietly();
  [[nodiscard]] bool quiet() const noexcept { return quiet_.has_value(); }
  // The socket was closed, or is not connecting any more: a quiet one is left as it is, any other is cancelled.
  void abandon();
  // The socket went its own way, and what the program sees of it is the kernel's.
  [[nodiscard]] bool abandoned() const noexcept { return abandoned_; }

  [[nodiscard]] const Order& order() const noexcept { return order_; }
  [[nodiscard]] DeferredRegistrations& registrations() noexcept { return registrations_; }
  // For the log.
  [[nodiscard]] std::uint16_t status() const noexcept;
  [[nodiscard]] std::string detail() const;
  // The proxies that could not be reached before the one in use, and why; empty: none.
  [[nodiscard]] const std::string& tried() const noexcept { return tried_; }
  [[nodiscard]] const Endpoint& dialled() const noexcept { return dialled_; }
  [[nodiscard]] bool sent_login() const noexcept {
    return order_.proxy != nullptr && order_.proxy->credentials.has_value();
  }
  // When it began, reached the proxy, and began to speak the proxy's protocol (behind TLS). uv_now; 0: never.
  struct Times {
    std::uint64_t started_ms = 0, connected_ms = 0, secured_ms = 0;
  };
  [[nodiscard]] const Times& times() const noexcept { return times_; }
  // No tunnel: the proxy is asked per request, at once or because it refused one.
  [[nodiscard]] bool absolute() const noexcept { return absolute_; }
  [[nodiscard]] bool fell_back() const noexcept { return fell_back_; }

  void on_socket_ready(std::uint32_t events) override;
  void on_message(Conversation& talk, const wire::Message& message) override;
  void on_asker_gone(Conversation& talk) override;

 private:
  enum class State : std::uint8_t { looking_up, dialling, elsewhere, securing, handshaking, joining, over };
  enum class Io : std::uint8_t { moved, would_block, closed };

  void on_deadline();
  void begin_search();
  void turn_to_next_proxy();
  // Without `blame` the proxy keeps its good name: the failure is none of its own.
  void unreachable(const Error& error, bool blame = true);
  void reached();
  void end_trial();
  void start_over();
  void look_up();
  void found(std::vector<IpAddress> addresses, LookupError error);
  void dial_next();
  void dialled(int error);
  void connected();
  void secure();
  void shake_hands();
  void join();
  void announce();
  void joined(UniqueFd program_end);
  void meet();
  void met();
  void stop_watching();
  [[nodiscard]] bool needs_relay() const;
  [[nodiscard]] bool ask_in_absolute_form();
  void relay_in_absolute_form(UniqueFd program_end);
  [[nodiscard]] int carrier() const noexcept { return own_ ? own_.get() : order_.socket.get(); }
  Io carrier_send(std::span<const std::byte> bytes, std::size_t& moved);
  Io carrier_peek(std::span<std::byte> into, std::size_t& moved);
  void carrier_take(std::size_t size);
  [[nodiscard]] bool tls_failed();
  void drive();
  template <class Machine>
  void drive(Machine& machine);
  void wait_for(std::uint32_t events);
  void finish(SocketState state, const Error& error);
  void fail(const Error& error);
  void leave_the_proxy();
  void take_off_the_proxy(bool somebody_waits);
  int begin_connect(const Endpoint& to);
  int connect_briefly(const Endpoint& to);
  [[nodiscard]] bool ask_to_dial(const Endpoint& to);
  [[nodiscard]] bool lets_asker_dial(const Endpoint& to);
  void forget_interrupted_caller();
  int begin_own_connect(const Endpoint& to);

  // The program's socket at the quiet door: that it ends there by itself (its own timeout, shutdown, AF_UNSPEC).
  struct QuietEnd final : SocketWatch::Watched {
    explicit QuietEnd(Attempt& attempt) : owner(attempt) {}
    void on_socket_ready(std::uint32_t) override { owner.abandon(); }
    Attempt& owner;
  };

  AttemptHost& host_;
  Order order_;
  State state_ = State::looking_up;
  Caller* waiting_ = nullptr;
  DeferredRegistrations registrations_;
  UvTimer deadline_;
  UvTimer patience_;  // with the proxy in use, until it is reached; only while there is a next one
  std::vector<const ProxyUrl*> plan_;
  std::size_t planned_ = 0;          // how many of them had their turn
  const ProxyUrl* trial_ = nullptr;  // reserved for this attempt in the pool
  std::uint64_t turned_ms_ = 0;      // when the one in use got its turn
  std::string tried_;
  Lookup::Ticket ticket_ = 0;
  std::vector<Endpoint> candidates_;
  std::size_t next_ = 0;
  Endpoint dialled_;
  Error last_;              // of the last candidate that failed
  bool dial_said_ = false;  // the asker was told to dial, and has not said how it went
  Endpoint dial_said_to_;
  bool relayed_ = false;
  bool absolute_ = false;   // relayed, and the proxy is asked per request: no tunnel
  bool fell_back_ = false;  // after a refusal of CONNECT
  UniqueFd own_;            // the carrier of a relayed attempt
  std::unique_ptr<TlsChannel> tls_;
  std::uint32_t tls_wants_ = 0;  // what the TLS session waits for, whichever way the bytes go
  RelayDoor::Ticket at_door_ = 0;
  std::optional<QuietDoor::Stand> quiet_;
  QuietEnd quiet_end_{*this};
  UniqueFd meeting_;  // connecting to the program's socket from the quiet door
  bool abandoned_ = false;
  std::string tls_why_;
  int watched_fd_ = -1;  // in the socket watch
  std::uint32_t watched_events_ = 0;
  Times times_;
  std::variant<std::monostate, HttpConnectClient, Socks5Client> machine_;
};

}  // namespace towpath
