// Connections that the program's listeners receive, from the moment a front end has accepted one.
//
// A front end (the preload library by way of agent/inbound_desk; a supervisor that traps accept) has the connection and
// the listener's SO_COOKIE. It calls
//
//   judge()       what is to become of this connection? give it to the program, with that client; or it was kept here,
//   or
//                 is gone, and the accept goes on as if it had not come (next connection, or EAGAIN)
//   next_ready()  first of all, at every accept: connections of that listener that were kept and are ready now
//   delivered() / give_back()   what next_ready() or judge() handed out arrived at the program, or could not
//                 (EMFILE, interrupted): given back it is the next accept's
//
// What is ready and not fetched makes the listener readable: a *bell* rings there (agent/inbound_bell), so that every
// kind of event loop wakes up; judge() knows it when it comes out of an accept. Nothing here waits, and nothing here
// knows how front ends talk. The preload library takes the first steps of judge() by itself, with the same code
// (proto/inbound_page, proto/proxy_header), and asks only when they do not suffice: hold(), answer_bell().
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "agent/client_table_writer.h"
#include "agent/inbound_bell.h"
#include "agent/inbound_doors.h"
#include "agent/log.h"
#include "agent/socket_watch.h"
#include "agent/waiting_room.h"
#include "config/inbound.h"

namespace towpath {

class HeldConnection;
class HttpSplit;

// For `status`; only ever raised.
struct InboundCounters {
  std::uint64_t held = 0;       // came here at all
  std::uint64_t surfaced = 0;   // and went to the program
  std::uint64_t malformed = 0;  // no PROXY header, or a bad one
  std::uint64_t timed_out = 0;  // said nothing in time, or had to make room
  std::uint64_t gone = 0;       // the client left before, or the listener did
  std::uint64_t requests = 0;   // HTTP
  std::uint64_t not_http = 0;   // answered with 400
  std::uint64_t tls = 0;        // handed over untouched although HTTP was expected
  std::uint64_t upgraded = 0;   // became a stream of bytes
};

class Inbound {
 public:
  class Host {
   public:
    virtual uv_loop_t* loop() = 0;
    virtual SocketWatch& sockets() = 0;
    // A stream from now on: the program's end and the client's.
    virtual void on_stream(UniqueFd program, UniqueFd client) = 0;

   protected:
    ~Host() = default;
  };

  // Writes `page`; borrows everything. `client_table`: -1 in a tree that was started without a reverse proxy: accept is
  // untouched there, whatever the settings say.
  Inbound(Host& host, const ReverseSettings& settings, InboundPage& page, int client_table, const Log& log);
  ~Inbound();

  [[nodiscard]] bool on() const noexcept { return on_; }
  // New settings, for the next accept and the next request. What is held stays under the rule that it came by.
  void set(const ReverseSettings& settings);
  // Connections may be there, or on their way, for a listener whose port has no rule any more.
  [[nodiscard]] bool rules_changed() const noexcept { return rules_changed_; }

  // ---- for front ends

  struct Ready {
    UniqueFd socket;
    Endpoint client;  // what accept and getpeername show; no address: what the kernel says
    Endpoint peer;    // who connected
    std::uint64_t listener = 0;
    Endpoint local;
  };
  enum class Fate : std::uint8_t { give, kept, gone };
  struct Verdict {
    Fate fate = Fate::gone;
    Ready ready;  // give
  };
  // `peer`: as accept told it; a connection that is dead by now does not tell it any more.
  [[nodiscard]] Verdict judge(UniqueFd accepted, std::uint64_t listener, const Endpoint& peer);
  [[nodiscard]] std::optional<Ready> next_ready(std::uint64_t listener);
  void delivered(Ready ready);
  void give_back(Ready ready);

  // The parts of judge() that the preload library cannot do by itself.
  void hold(UniqueFd accepted, std::uint64_t listener);
  // False: no bell of ours. True and nothing in `out`: a bell whose connection is gone.
  [[nodiscard]] bool answer_bell(const Endpoint& other_end, std::optional<Ready>& out);

  [[nodiscard]] ClientTableWriter& clients() noexcept { return clients_; }
  [[nodiscard]] const InboundCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] bool idle() const noexcept { return held_.empty() && splits_.empty() && waiting_.empty(); }
  // After the loop has left all callbacks: frees what ended.
  void sweep();

  // ---- for the parts (HeldConnection, HttpSplit, InboundBell)

  Host& host() noexcept { return host_; }
  const ReverseSettings& settings() const noexcept { return *settings_; }
  TrustedRanges ranges() const noexcept { return ranges_; }
  WaitingRoom& room() noexcept { return room_; }
  InboundDoors& doors() noexcept { return doors_; }
  InboundCounters& count() noexcept { return counters_; }
  const Log& log() const noexcept { return log_; }
  void on_ready(HeldConnection& held, Ready ready);
  void on_http(HeldConnection& held, UniqueFd client, const Endpoint& logical_peer, const Endpoint& local,
               bool trusted);
  void on_held_over(HeldConnection& held);
  void on_split_over(HttpSplit& split);
  // The bell of a waiting connection found nobody: its listener is gone.
  void on_nobody(InboundBell& bell);

 private:
  struct Waiting {
    Ready ready;
    std::unique_ptr<InboundBell> bell;
  };
  void publish_rules();
  void make_ready(Ready ready, bool first);
  Ready take(std::list<Waiting>::iterator at);
  [[nodiscard]] bool note(const Ready& ready);

  Host& host_;
  const ReverseSettings* settings_;
  std::vector<AddressRange> ranges_;
  InboundPage& page_;
  ClientTableWriter clients_;
  const Log& log_;
  bool on_;
  bool rules_changed_ = false;
  InboundDoors doors_;
  WaitingRoom room_;
  InboundCounters counters_;
  std::unordered_map<HeldConnection*, std::unique_ptr<HeldConnection>> held_;
  std::unordered_map<HttpSplit*, std::unique_ptr<HttpSplit>> splits_;
  std::list<Waiting> waiting_;  // ready, in the order of their becoming so
  std::vector<std::unique_ptr<HeldConnection>> ended_held_;
  std::vector<std::unique_ptr<HttpSplit>> ended_splits_;
  std::vector<std::unique_ptr<InboundBell>> ended_bells_;
};

// The SO_COOKIE of a socket; 0 when there is none.
[[nodiscard]] std::uint64_t socket_cookie(int fd) noexcept;

}  // namespace towpath
