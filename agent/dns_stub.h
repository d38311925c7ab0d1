// The name server that programs with a resolver of their own reach in the place of the one they ask: sockets that
// connect or send to port 53 are led here by the hooks, and what happens to a question is agent/dns_answers.
//
// - UDP: one *door* (a socket on 127.0.0.1 and one on ::1) per asked name server. The published page tells which port
//   stands for which server, so that the hooks show an answer as coming from the server that was asked, also
//   where one socket asks several.
// - TCP: one listener per family; the socket's entry in the page says which server it asked.
// - Only for the programs of our tree: whoever sends here is looked up by the kernel's identity of its socket, which
//   must have been announced (state `dns` in the page). Others get no answer, not even a refusal.
// - The ports survive the agent: a new one binds what the page names.
#pragma once

#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "agent/acceptor.h"
#include "agent/derived_policy.h"
#include "agent/dns_answers.h"
#include "agent/page_writer.h"
#include "agent/socket_owner.h"
#include "agent/uv.h"
#include "base/unique_fd.h"

namespace towpath {

class DnsStub {
 public:
  DnsStub(uv_loop_t* loop, const std::shared_ptr<const Policy>& policy, ThisHost& host, NameService& names,
          Lookup& lookup, PageWriter& page, const Log& log);
  ~DnsStub();

  // Must questions to this address come here? Those to the machine's own name servers, wherever they are, and to any
  // other on port 53 that is not exempt.
  [[nodiscard]] bool leads(const Endpoint& target);
  // Where a socket of that domain is led; no address: there is no way.
  [[nodiscard]] Endpoint datagram_door(const Endpoint& server, int domain, bool v6_only);
  [[nodiscard]] Endpoint stream_door(const Endpoint& server, int domain, bool v6_only);

  [[nodiscard]] DnsAnswers& answers() noexcept { return answers_; }

 private:
  // One socket of a door, or a listener.
  struct Side {
    DnsStub* stub = nullptr;
    std::uint32_t door = 0;
    UniqueFd fd;
    Endpoint own;
    UvPoll poll;        // datagrams
    Acceptor acceptor;  // streams
  };
  struct Door {
    Endpoint server;
    Side v4, v6;
    [[nodiscard]] std::uint32_t ports() const {
      return std::uint32_t{v4.own.port} << 16 | v6.own.port;
    }  // as in the page
    std::uint64_t used_ms = 0;
    std::uint64_t generation = 0;  // another server since: answers on their way belong to nobody
  };
  class Stream;
  static constexpr std::size_t most_streams = 256;
  static constexpr std::uint64_t door_idle_ms = 60'000;

  bool open_side(Side& side, int kind, int domain, std::uint16_t port);
  void open_sides(Door& door, std::uint32_t wanted_ports);  // those that are missing
  void open_door(std::uint32_t at, const Endpoint& server, std::uint32_t wanted_ports);
  std::uint32_t find_door(const Endpoint& server);
  void read(Side& side);
  void accept(Side& side);
  [[nodiscard]] bool is_ours(PeerKind kind, const Endpoint& peer, const Endpoint& own, Endpoint* asked);
  void over(Stream& stream);

  uv_loop_t* loop_;
  const std::shared_ptr<const Policy>& policy_;
  // The list of ports is about TCP, not about who may see questions. And a name server on this host's link (a cloud's,
  // a node's cache) passes questions on: that it can be reached without the proxy does not mean that it may see names.
  DerivedPolicy any_port_{[](Policy& policy) {
    policy.ports = {};
    policy.link_local = LinkLocal::tunnel;
  }};
  NameService& names_;
  PageWriter& page_;
  const Log& log_;
  std::vector<Endpoint> servers_;  // as resolv.conf had them when last looked at
  std::vector<std::unique_ptr<Door>> doors_;
  Side streams_v4_, streams_v6_;
  std::uint64_t generations_ = 0;
  std::unordered_map<std::uint64_t, std::unique_ptr<Stream>> streams_;
  std::uint64_t last_stream_ = 0;
  DnsAnswers answers_;  // ends first: nothing calls back into what is gone
};

}  // namespace towpath
