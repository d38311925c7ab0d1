#include "agent/stats.h"

#include <algorithm>
#include <ctime>

namespace towpath {

void LatencyHistogram::add(std::uint64_t ms) noexcept {
  const auto* at = std::lower_bound(bounds_ms.begin(), bounds_ms.end(), ms);
  if (at != bounds_ms.end()) ++counts_[static_cast<std::size_t>(at - bounds_ms.begin())];
  ++count_;
  sum_ms_ += ms;
}

std::uint64_t LatencyHistogram::up_to(std::size_t at) const noexcept {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i <= at && i < counts_.size(); ++i) out += counts_[i];
  return out;
}

std::uint32_t LatencyHistogram::bound_of(double share) const noexcept {
  if (count_ == 0) return 0;
  for (std::size_t i = 0; i < bounds_ms.size(); ++i)
    if (static_cast<double>(up_to(i)) >= share * static_cast<double>(count_)) return bounds_ms[i];
  return 0;
}

Stats::Stats() : started_unix_(std::time(nullptr)) { proxies_.emplace_back().display = "direct"; }

ProxyCounters& Stats::of(const ProxyUrl* proxy) {
  if (proxy == nullptr) return proxies_.front();
  for (const Known& each : known_)
    if (each.port == proxy->port && each.scheme == proxy->scheme && each.host == proxy->host) return *each.counters;
  if (known_.size() >= most_proxies) return proxies_.back();
  ProxyCounters& fresh = proxies_.emplace_back();
  fresh.display = known_.size() + 1 == most_proxies ? "others" : proxy->display();
  known_.push_back({proxy->scheme, proxy->port, proxy->host, &fresh});
  return fresh;
}

}  // namespace towpath
