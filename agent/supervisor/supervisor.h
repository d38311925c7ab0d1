// The second front end: programs whose calls do not pass a preloaded library. The kernel stops the calls that
// trap/filter names and shows them to us; we decide with the same policy, and tunnel with the same attempts, as for the
// first one.
//
// - INET connects are made here, from a copy of the address, on the program's own open file: never by the kernel from
//   memory that another thread can change meanwhile. CONTINUE is for what is no INET socket.
// - A blocking connect is *held*: its thread waits in the kernel until the verdict. A non-blocking one is not: below Go
//   its epoll registrations are deferred (Go waits with nothing else, and keeps its own socket as the tunnel); anybody
//   else's socket waits at the quiet door, where the kernel shows it as not ready. What cannot wait there is held.
// - Never blocks, never waits: a notice is answered at once or belongs to a HeldCall.
// - What cannot be looked at (another user's program, without CAP_SYS_PTRACE) is refused with a line.
#pragma once

#include <cerrno>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/datagrams.h"
#include "agent/names.h"
#include "agent/quiet_door.h"
#include "agent/ruling.h"
#include "agent/shelf.h"
#include "agent/inbound.h"
#include "agent/supervisor/births.h"
#include "agent/supervisor/held_accept.h"
#include "agent/supervisor/held_call.h"
#include "agent/supervisor/held_receive.h"
#include "agent/supervisor/listener.h"
#include "agent/supervisor/tasks.h"

namespace towpath {

struct Outgoing;  // datagram.cpp

class Supervisor final : public Listener::Host,
                         public HeldCall::Host,
                         public HeldReceive::Host,
                         public HeldAccept::Host {
 public:
  struct Parts {
    uv_loop_t* loop;
    SocketWatch& sockets;
    PageWriter& page;
    NameService& names;
    Datagrams& datagrams;
    const Log& log;
    Judge& judge;
    Inbound& inbound;
    QuietDoor& quiet_door;
  };
  Supervisor(const Parts& parts, const Shelf& shelf, const wire::Token& token);
  ~Supervisor();

  // What an agent before us supervised.
  void adopt_kept();
  // A program has put itself under a filter of that flavour. False: the agent can take no more.
  // `inherited`: sockets that it came with and that listen.
  [[nodiscard]] bool adopt(UniqueFd listener, std::uint32_t flavour, std::vector<UniqueFd> inherited = {});
  // Is any tree supervised?
  [[nodiscard]] bool busy() const noexcept { return !listeners_.empty(); }
  // An attempt is over; its socket is still there.
  void on_verdict(const Attempt& attempt, SocketState state);
  // Has a process of the trees that socket, as far as can be seen? False only when it is known to be closed.
  [[nodiscard]] bool still_held(const Attempt& attempt);
  // The loop has left every callback.
  void sweep_ended();

 private:
  // Notes of what lies on the shelf: listeners (key and flavour), and epoll sets that were made here (this bit and
  // marker).
  static constexpr std::uint64_t epoll_note = std::uint64_t{1} << 63;
  static constexpr std::uint64_t born_note = std::uint64_t{1} << 62;  // a program's listener
  static constexpr std::uint64_t door_note = std::uint64_t{1} << 61;  // of the quiet door

  // An INET socket of the program.
  struct Target {
    UniqueFd fd;  // the same open file; empty when only its identity is known (Births)
    std::uint64_t cookie = 0;
    int domain = 0, type = 0;
    bool v6_only = false;
  };
  enum class Look : std::uint8_t { inet, other, bad, unreadable, stranger };

  void on_notice(const Notice& notice) override;
  void on_tree_ended(Listener& listener) override;
  void on_released(HeldCall& call) override;
  void on_released(HeldReceive& call) override;

  // connecting.cpp
  void connect(const Notice& notice);
  void connect_stream(const Notice& notice, Target socket, const Endpoint& target);
  void connect_datagram(const Notice& notice, Target socket, const Endpoint& target);
  bool connect_known(const Notice& notice, const Target& socket, const Endpoint& target, bool nonblocking);
  void connect_here(const Notice& notice, const Target& socket, const Endpoint& to);
  void hold(const Notice& notice, Attempt& attempt, int socket);
  // asking.cpp
  void epoll_ctl(const Notice& notice);
  bool was_answered(const Notice& notice, std::uint64_t cookie);
  void note_answer(const Notice& notice, std::uint64_t cookie, const wire::Registration& made);
  void forget_answers();
  void getsockopt(const Notice& notice);
  void getpeername(const Notice& notice);
  // datagram.cpp
  void sendto(const Notice& notice);
  void sendmsg(const Notice& notice);
  void sendmmsg(const Notice& notice);
  [[nodiscard]] bool concerns(const Outgoing& what) const;
  bool may_judge(const Notice& notice, const Outgoing& what, Target& socket);
  // Errno, 0 with what was sent, or that the kernel is to do it itself.
  int send_one(const Notice& notice, const Target& socket, Outgoing& what, int flags, std::size_t& sent);
  int send_led(const Notice& notice, const Target& socket, Outgoing& what, const Endpoint& door, int flags,
               std::size_t& sent);
  int send_as_is(const Notice& notice, const Target& socket, Outgoing& what, int flags, std::size_t& sent);
  void receive(const Notice& notice, bool message);
  // accepting.cpp
  void accept(const Notice& notice);
  bool try_accept(const AcceptCall& call) override;
  void accept_inherited(const Notice& notice);
  void on_released(HeldAccept& call) override;
  bool deliver(const AcceptCall& call, Inbound::Ready ready);
  bool show_client(const Notice& notice, const Target& socket, std::uint64_t address, std::uint64_t size);
  // making.cpp
  void make_socket(const Notice& notice);
  void make_epoll(const Notice& notice);
  void bind(const Notice& notice);
  void listen(const Notice& notice);
  void foreign_call(const Notice& notice);

  // Finds the socket behind the program's descriptor. Answers the notice unless the result is inet.
  Look look(const Notice& notice, int number, Target& out);
  bool inspect(const Notice& notice, int number, Target& out);
  void refuse(const Notice& notice, std::string_view why, std::string_view hint);
  void full(const Notice& notice, int error = ENFILE);  // no descriptor is free
  [[nodiscard]] bool can_see(pid_t tid) const;
  [[nodiscard]] bool same_network(pid_t tid) const;
  void note_process(pid_t tid);
  [[nodiscard]] std::vector<pid_t> roots();
  void put_on_shelf(const Listener& listener);
  void refill_shelf();  // with what lives
  void keep_doors();
  void sweep_births();
  void watch_time();
  void on_tick();
  void look_for_closed();

  Parts parts_;
  Shelf shelf_;
  wire::Token token_;
  Tasks tasks_;
  Births births_;
  UniqueFd silence_v4_, silence_v6_;  // datagrams that must not leave go here: every one is refused
  Endpoint silent_v4_, silent_v6_;
  std::uint64_t network_ = 0;
  std::unordered_map<std::uint64_t, std::unique_ptr<HeldCall>> held_;  // by socket cookie
  std::unordered_map<HeldReceive*, std::unique_ptr<HeldReceive>> receiving_;
  // Registrations that were deferred and answered lately, by socket.
  struct AnsweredAdd {
    pid_t tid;
    std::int32_t epoll, fd;
    std::uint32_t events;
    std::uint64_t data, at_ms;
  };
  std::unordered_map<std::uint64_t, AnsweredAdd> answered_adds_;
  std::uint64_t answers_looked_at_ms_ = 0;
  std::unordered_set<std::uint64_t> gated_;    // attempts for which nobody waits, by cookie
  std::unordered_set<std::uint64_t> unheard_;  // of them: the program was not told that its connect goes on
  unsigned doors_kept_ = 0;
  std::unordered_set<std::uint64_t> unix_;  // listeners that are no business of ours, by inode
  std::unordered_set<pid_t> processes_;     // that made calls
  std::unordered_set<pid_t> refused_;       // that were told so
  std::unordered_map<std::uint32_t, std::unique_ptr<Listener>> listeners_;
  std::uint32_t last_key_ = 0;
  bool inherited_ = false;  // trees of an agent before us, whose births we do not know
  unsigned ticks_ = 0;
  UvTimer clock_;
  std::vector<std::unique_ptr<Listener>> ended_listeners_;
  std::vector<std::unique_ptr<HeldCall>> ended_calls_;
  std::vector<std::unique_ptr<HeldReceive>> ended_receives_;
  std::unordered_map<HeldAccept*, std::unique_ptr<HeldAccept>> accepting_;
  std::vector<std::unique_ptr<HeldAccept>> ended_accepts_;
};

}  // namespace towpath
