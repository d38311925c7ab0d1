#include "agent/log_limit.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace towpath {

std::size_t LogLimit::Hash::operator()(const Kind& kind) const noexcept {
  const std::hash<std::string> text;
  std::size_t out = text(kind.event);
  for (const std::size_t part : {text(kind.target), text(kind.cause), static_cast<std::size_t>(kind.pid)})
    out = out * 1099511628211ull ^ part;
  return out;
}

bool LogLimit::make_room(std::uint64_t now_ms) {
  if (windows_.size() < most_kinds) return true;
  std::erase_if(windows_, [&](const auto& each) {
    return each.second.suppressed == 0 && now_ms - each.second.since_ms >= window_ms;
  });
  return windows_.size() < most_kinds;
}

LogLimit::Pass LogLimit::admit(const Kind& kind, std::uint64_t now_ms) {
  auto at = windows_.find(kind);
  if (at == windows_.end()) {
    if (!make_room(now_ms)) return {};
    at = windows_.emplace(kind, Window{now_ms, 0, 0}).first;
  }
  Window& window = at->second;
  if (now_ms - window.since_ms >= window_ms) {
    const std::uint64_t before = window.suppressed;
    window = {now_ms, 1, 0};
    return {true, false, before};
  }
  if (window.written < burst) {
    ++window.written;
    return {};
  }
  ++total_;
  return {false, ++window.suppressed == 1, 0};
}

std::vector<LogLimit::Told> LogLimit::overdue(std::uint64_t now_ms, bool all) {
  std::vector<Told> out;
  for (auto& [kind, window] : windows_)
    if (window.suppressed != 0 && (all || now_ms - window.since_ms >= window_ms))
      out.push_back({kind, std::exchange(window.suppressed, 0)});
  return out;
}

bool LogLimit::pending() const noexcept {
  return std::any_of(windows_.begin(), windows_.end(), [](const auto& each) { return each.second.suppressed != 0; });
}

}  // namespace towpath
