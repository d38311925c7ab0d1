// Positive answers for a moment. Bounded; when full, the answer that ends soonest goes first.
// Times are milliseconds of any monotonic clock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/endpoint.h"

namespace towpath {

class AddressCache {
 public:
  static constexpr std::size_t most = 256;
  static constexpr std::uint32_t longest_seconds = 30;

  // Null when not known. Valid until the next call.
  [[nodiscard]] const std::vector<IpAddress>* find(const std::string& key, std::uint64_t now_ms) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) return nullptr;
    if (now_ms < found->second.ends_ms) return &found->second.addresses;
    entries_.erase(found);
    return nullptr;
  }

  void keep(std::string key, std::vector<IpAddress> addresses, std::uint32_t ttl_seconds, std::uint64_t now_ms) {
    if (ttl_seconds == 0) return;
    if (entries_.size() >= most && !entries_.contains(key)) {
      entries_.erase(std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
        return a.second.ends_ms < b.second.ends_ms;
      }));
    }
    const std::uint64_t ends_ms = now_ms + std::uint64_t{std::min(ttl_seconds, longest_seconds)} * 1000;
    entries_.insert_or_assign(std::move(key), Entry{std::move(addresses), ends_ms});
  }

  void clear() noexcept { entries_.clear(); }
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    std::vector<IpAddress> addresses;
    std::uint64_t ends_ms;
  };
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace towpath
