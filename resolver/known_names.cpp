#include "resolver/known_names.h"

#include <functional>

namespace towpath {

std::size_t KnownNames::Hash::operator()(const IpAddress& address) const noexcept {
  const auto bytes = address.bytes();
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

bool KnownNames::learn(std::string_view name, std::span<const IpAddress> addresses) {
  if (name.empty() || name.size() > longest_name || most_ == 0) return false;
  bool changed = false;
  // `name` may be a view that name_of() gave.
  const std::string learnt(name);
  for (const IpAddress& address : addresses) {
    if (!address) continue;
    if (const auto found = by_address_.find(address); found != by_address_.end()) {
      changed = changed || found->second->name != learnt;
      found->second->name = learnt;
      entries_.splice(entries_.begin(), entries_, found->second);
      continue;
    }
    changed = true;
    if (entries_.size() >= most_) {
      by_address_.erase(entries_.back().address);
      entries_.pop_back();
    }
    entries_.push_front({address, learnt});
    by_address_.emplace(address, entries_.begin());
  }
  return changed;
}

std::string_view KnownNames::name_of(const IpAddress& address) {
  const auto found = by_address_.find(address);
  if (found == by_address_.end()) return {};
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->name;
}

}  // namespace towpath
