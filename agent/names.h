// Who answers for a name: the program's own resolver, or a synthetic address that stands for the name.
// What is decided here is only where a lookup may go; where a connect goes is decided when its port is known.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/this_host.h"
#include "config/policy.h"
#include "resolver/known_names.h"
#include "resolver/lookup.h"
#include "resolver/synthetic_names.h"

namespace towpath {

class NameService {
 public:
  NameService(SyntheticNames table, Lookup& lookup, ThisHost& host)
      : table_(std::move(table)), lookup_(lookup), host_(host) {
    known_.keep_in(table_.spare());
  }

  struct Answer {
    enum class Kind : std::uint8_t { own, synthetic, no_such_name, full } kind = Kind::own;
    SyntheticNames::Pair pair;
    std::vector<std::string> candidates;  // exempt expansions that the own resolver would try first
  };
  [[nodiscard]] Answer answer(const Policy& policy, std::string_view asked);
  // Would answer() be synthetic for this absolute, normalised name? Hands out no address.
  [[nodiscard]] bool may_tunnel(const Policy& policy, const std::string& name);

  // True when an earlier verdict about one of the addresses may be wrong now.
  bool learn(std::string_view name, std::span<const IpAddress> addresses);
  // The name behind a synthetic address, or the one that the program's resolver gave this address for; "" if none.
  [[nodiscard]] std::string name_of(const IpAddress& address);
  // An address of the /64 that synthetic IPv6 addresses are taken from.
  [[nodiscard]] static IpAddress synthetic_prefix_v6() noexcept { return IpAddress::parse("fd74:6f77:7061:7468::"); }
  [[nodiscard]] bool is_synthetic(const IpAddress& address) const noexcept { return table_.contains(address); }

 private:
  [[nodiscard]] bool is_local(const std::string& name);
  void note_own(const Policy& policy, const std::string& name);
  [[nodiscard]] bool asked_for_own(const std::string& name) const;

  SyntheticNames table_;
  KnownNames known_;
  Lookup& lookup_;
  std::unordered_map<std::string, std::uint64_t> own_expansions_;  // until when, in seconds
  ThisHost& host_;
};

}  // namespace towpath
