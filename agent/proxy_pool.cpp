#include "agent/proxy_pool.h"

#include <algorithm>
#include <utility>

namespace towpath {

ProxyPool::Entry* ProxyPool::find(const ProxyUrl& proxy) noexcept {
  const auto at = std::find_if(entries_.begin(), entries_.end(),
                               [&](const Entry& entry) { return is_same_proxy(entry.proxy, proxy); });
  return at == entries_.end() ? nullptr : &*at;
}

void ProxyPool::adopt(const Policy& policy) {
  std::vector<Entry> before = std::exchange(entries_, {});
  constexpr std::string_view names[] = {"http", "https", "all"};
  std::size_t index = 0;
  for (const ProxyList* list : policy.proxy_lists()) {
    const std::string_view name = names[index++];
    for (const ProxyUrl& proxy : *list) {
      Entry* entry = find(proxy);
      if (entry == nullptr) {
        const auto known = std::find_if(before.begin(), before.end(),
                                        [&](const Entry& old) { return is_same_proxy(old.proxy, proxy); });
        entries_.push_back(known != before.end() ? std::move(*known) : Entry{});
        entry = &entries_.back();
        entry->proxy = proxy;
        entry->lists.clear();
        entry->shared = false;
      }
      if (!entry->lists.ends_with(name)) entry->lists += (entry->lists.empty() ? "" : ", ") + std::string(name);
      entry->shared = entry->shared || list->size() > 1;
    }
  }
}

ProxyPool::Plan ProxyPool::plan(std::span<const ProxyUrl> list, std::uint64_t now_ms) {
  Plan out;
  std::vector<const ProxyUrl*> later;
  for (const ProxyUrl& proxy : list) {
    Entry* const entry = find(proxy);
    if (entry == nullptr || entry->healthy) {
      out.order.push_back(&proxy);
    } else if (out.trial == nullptr && !entry->on_trial && now_ms >= entry->retry_at_ms) {
      entry->on_trial = true;
      out.trial = &proxy;
      out.order.push_back(&proxy);
    } else {
      later.push_back(&proxy);
    }
  }
  // With nothing healthy in front, what is behind keeps the order of the list as well.
  if (out.order.empty() || (out.order.size() == 1 && out.trial != nullptr)) {
    out.order.clear();
    for (const ProxyUrl& proxy : list) out.order.push_back(&proxy);
    return out;
  }
  out.order.insert(out.order.end(), later.begin(), later.end());
  return out;
}

void ProxyPool::unreachable(const ProxyUrl& proxy, std::string_view cause, const ProxyUrl* instead,
                            std::uint64_t began_ms, std::uint64_t now_ms) {
  Entry* const entry = find(proxy);
  if (entry == nullptr || began_ms < entry->newest_ms) return;
  entry->cause = cause;
  if (!entry->healthy) {
    // Many connects fail at once when a proxy ends: one failure. Later ones count when the back-off had passed.
    if (now_ms < entry->retry_at_ms) return;
    entry->on_trial = false;
  }
  const bool news = std::exchange(entry->healthy, false);
  ++entry->failures;
  entry->newest_ms = began_ms;
  const unsigned doublings = std::min(entry->failures - 1, 16u);
  entry->retry_at_ms = now_ms + std::min(first_back_off_ms << doublings, longest_back_off_ms);
  if (news && entry->shared)
    LogLine(log_, Level::warning, "proxy_unreachable")
        .add("proxy", proxy.display())
        .add("reason", cause)
        .add("instead", instead != nullptr ? instead->display() : "the next connect tells");
}

void ProxyPool::reached(const ProxyUrl& proxy, std::uint64_t began_ms) {
  Entry* const entry = find(proxy);
  // When a proxy ends, what it said just before may be heard just after.
  if (entry == nullptr || began_ms < entry->newest_ms || (!entry->healthy && began_ms == entry->newest_ms)) return;
  entry->newest_ms = began_ms;
  if (entry->healthy) return;
  entry->healthy = true;
  entry->on_trial = false;
  entry->failures = 0;
  if (entry->shared) LogLine(log_, Level::warning, "proxy_back").add("proxy", proxy.display()).add("was", entry->cause);
}

void ProxyPool::let_go(const ProxyUrl& proxy) {
  if (Entry* const entry = find(proxy)) entry->on_trial = false;
}

std::vector<ProxyPool::Health> ProxyPool::health(std::uint64_t now_ms) const {
  std::vector<Health> out;
  for (const Entry& entry : entries_) {
    const bool waits = !entry.healthy && entry.retry_at_ms > now_ms;
    out.push_back({entry.proxy.display(), entry.healthy, entry.failures, entry.cause,
                   waits ? entry.retry_at_ms - now_ms : 0, entry.lists});
  }
  return out;
}

}  // namespace towpath
