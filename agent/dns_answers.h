// What a program's own resolver gets to hear: DNS questions in, answers out, whatever way they came.
//
//   A, AAAA of a name that may be tunnelled   its synthetic IPv4 address; an empty answer for AAAA. Nothing leaves the
//                                             machine
//     ... that ends in a search domain        a candidate of somebody's search list: the name servers are asked
//                                             whether it exists, silence of a second counts as no (NXDOMAIN)
//   SVCB, HTTPS, ANY of such a name           an empty answer: a hint past the synthetic address would be no use
//   PTR of a synthetic address                the name
//   any other type, of a name or (PTR) of an
//   address that may be tunnelled             an empty answer, or with `dnsOtherTypes: forward` as everything else
//   everything else                           passed on to the name servers of resolv.conf and back; addresses are
//                                             remembered with the name, so that a later connect is judged by it
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "agent/dns_forwarder.h"
#include "agent/log.h"
#include "agent/names.h"
#include "agent/uv.h"
#include "agent/this_host.h"
#include "config/policy.h"
#include "proto/dns_message.h"
#include "resolver/lookup.h"

namespace towpath {

class DnsAnswers {
 public:
  // Empty: no answer. Comes at once or from the loop.
  using Done = std::function<void(std::span<const std::byte>)>;
  using Learnt = std::function<void()>;  // an earlier verdict about an address may be wrong now

  static constexpr std::uint32_t ttl_seconds = 5;
  static constexpr std::uint64_t candidate_ms = 1000;

  // Borrows everything, the policy as the agent has it at the time of a question.
  DnsAnswers(uv_loop_t* loop, const std::shared_ptr<const Policy>& policy, ThisHost& host, NameService& names,
             Lookup& lookup, const Log& log, Learnt learnt);
  ~DnsAnswers();

  // `asked`: the name server that the program asked, none when it did not say. `limit`: how long a reply may be; 0:
  // what the question itself says (UDP).
  void answer(std::span<const std::byte> query, const Endpoint& asked, std::size_t limit, Done done);

  // Questions that somebody asked.
  [[nodiscard]] std::uint64_t asked() const noexcept { return asked_; }

  // The servers of resolv.conf, or what libc asks where there are none.
  [[nodiscard]] std::vector<Endpoint> servers();

 private:
  struct Candidate {
    DnsAnswers& owner;
    std::uint64_t key;
    dns::Question question;
    std::size_t limit;
    Done done;
    Lookup::Ticket ticket = 0;
    UvTimer timer;
  };
  static constexpr std::size_t most_candidates = 1024;

  void judge(std::span<const std::byte> query, const dns::Question& question, const Endpoint& asked, std::size_t limit,
             Done done);
  void pass_on(std::span<const std::byte> query, const dns::Question& question, const Endpoint& asked,
               std::size_t limit, Done done);
  void passed(const dns::Question& question, std::span<const std::byte> reply);
  void try_candidate(const dns::Question& question, std::size_t limit, Done done);
  void decided(std::uint64_t key, bool exists);
  void synthetic(const dns::Question& question, std::size_t limit, const Done& done);
  // Of a type that is not about addresses: may the name servers of this machine hear of it?
  [[nodiscard]] bool may_be_seen(const dns::Question& question) const;
  [[nodiscard]] bool is_candidate(std::string_view name);

  uv_loop_t* loop_;
  const std::shared_ptr<const Policy>& policy_;
  ThisHost& host_;
  NameService& names_;
  Lookup& lookup_;
  const Log& log_;
  Learnt learnt_;
  DnsForwarder forwarder_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Candidate>> candidates_;
  std::uint64_t last_key_ = 0;
  std::uint64_t asked_ = 0;
};

}  // namespace towpath
