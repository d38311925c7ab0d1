#include "agent/plain_memory.h"

namespace towpath {

namespace {

std::string key_of(const ProxyUrl& proxy) {
  return proxy.display() + " " + (proxy.credentials ? proxy.credentials->user : std::string());
}

}  // namespace

PlainMemory::Answer PlainMemory::of(const ProxyUrl& proxy, std::uint64_t now_ms) {
  const auto at = entries_.find(key_of(proxy));
  if (at == entries_.end()) return Answer::unknown;
  if (now_ms < at->second.until_ms) return at->second.answer;
  entries_.erase(at);
  return Answer::unknown;
}

void PlainMemory::granted(const ProxyUrl& proxy, std::uint64_t now_ms) {
  entries_[key_of(proxy)] = {Answer::granted, now_ms + lifetime_ms};
}

void PlainMemory::refused(const ProxyUrl& proxy, std::uint64_t now_ms) {
  if (of(proxy, now_ms) != Answer::granted) entries_[key_of(proxy)] = {Answer::refused, now_ms + lifetime_ms};
}

}  // namespace towpath
