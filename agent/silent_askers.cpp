#include "agent/silent_askers.h"

#include <algorithm>

#include <sys/resource.h>

#include "agent/conversation.h"

namespace towpath {

namespace {

constexpr std::size_t most_silent = 4096;

// A quarter of what this process may have open.
std::size_t allowed() noexcept {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur / 4 >= most_silent) return most_silent;
  return std::max<std::size_t>(limit.rlim_cur / 4, 1);
}

}  // namespace

SilentAskers::SilentAskers() : most_(allowed()) {}

void SilentAskers::add(Conversation& talk) {
  if (!ages_.emplace(&talk, ++last_).second) return;
  by_age_.emplace(last_, &talk);
  if (by_age_.size() > most_) drop_oldest();
}

void SilentAskers::remove(Conversation& talk) noexcept {
  const auto at = ages_.find(&talk);
  if (at == ages_.end()) return;
  by_age_.erase(at->second);
  ages_.erase(at);
}

bool SilentAskers::drop_oldest() {
  if (by_age_.empty()) return false;
  by_age_.begin()->second->end();  // which removes it
  return true;
}

}  // namespace towpath
