#include "agent/names.h"

#include <ctime>

#include "config/decide.h"
#include "proto/wire.h"
#include "resolver/resolv_conf.h"

namespace towpath {

namespace {

// Shared by all agents on one table, and never set back.
std::uint64_t now_seconds() noexcept {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return static_cast<std::uint64_t>(time.tv_sec);
}

}  // namespace

bool NameService::is_local(const std::string& name) {
  return name == "localhost" || name == host_.name() || !lookup_.in_hosts(name).empty();
}

bool NameService::may_tunnel(const Policy& policy, const std::string& name) {
  return policy.any_proxy() && policy.dns == DnsMode::proxy && !is_local(name) && outlook(policy, name).may_tunnel &&
         !asked_for_own(name);
}

// The own resolver is to answer for `name`, and under the net its questions come to us: the name as the search list
// expands it is not judged by itself then (`<local>` exempts `db`, and libc asks for db.ns.svc.cluster.local).
void NameService::note_own(const Policy& policy, const std::string& name) {
  constexpr std::size_t most = 256;
  constexpr std::uint64_t patience_s = 30;  // of a resolver that asks one name server after the other
  for (const std::string& candidate : expand(name, lookup_.resolv_conf())) {
    if (candidate == name || !outlook(policy, candidate).may_tunnel) continue;
    if (own_expansions_.size() >= most)
      std::erase_if(own_expansions_, [now = now_seconds()](const auto& each) { return each.second < now; });
    if (own_expansions_.size() < most) own_expansions_[candidate] = now_seconds() + patience_s;
  }
}

bool NameService::asked_for_own(const std::string& name) const {
  const auto at = own_expansions_.find(name);
  return at != own_expansions_.end() && at->second >= now_seconds();
}

NameService::Answer NameService::answer(const Policy& policy, std::string_view asked) {
  Answer out;
  if (!policy.any_proxy() || policy.dns == DnsMode::local) return out;
  const std::string name = normalise_name(asked);
  if (name.empty()) {
    out.kind = Answer::Kind::no_such_name;
    return out;
  }
  if (!may_tunnel(policy, name)) {
    if (!asked.ends_with('.')) note_own(policy, name);
    return out;
  }
  // What libc would try before the name as it stands: each of them that may not be tunnelled is the own resolver's.
  const bool absolute = asked.ends_with('.');
  for (const std::string& candidate : expand(absolute ? name + "." : name, lookup_.resolv_conf())) {
    if (candidate == name || out.candidates.size() == wire::max_candidates) break;
    if (candidate.size() < wire::max_name && !outlook(policy, candidate).may_tunnel)
      out.candidates.push_back(candidate + ".");
  }
  const auto pair = table_.address_of(name, now_seconds());
  out.kind = pair ? Answer::Kind::synthetic : Answer::Kind::full;
  if (pair) out.pair = *pair;
  return out;
}

bool NameService::learn(std::string_view name, std::span<const IpAddress> addresses) {
  const std::string normal = normalise_name(name);
  return !normal.empty() && known_.learn(normal, addresses);
}

std::string NameService::name_of(const IpAddress& address) {
  if (table_.contains(address)) return std::string(table_.name_of(address, now_seconds()));
  return std::string(known_.name_of(address));
}

}  // namespace towpath
