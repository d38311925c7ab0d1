#include "preload/verdicts.h"

#include <atomic>
#include <cstring>

#include "preload/process.h"

namespace towpath {

namespace {

// One line of the table: odd version while it is written. All parts are atomics, so that a torn read is only a miss.
struct Slot {
  std::atomic<std::uint32_t> version;
  std::atomic<std::uint32_t> epoch;
  std::atomic<std::uint64_t> page, high, low, rest;
};

struct Key {
  std::uint64_t high = 0, low = 0, rest = 0;
};

constexpr std::size_t slots = 256;
constinit Slot table[slots]{};

Key key_of(const Endpoint& target, Traffic traffic) noexcept {
  Key key;
  std::uint8_t bytes[16] = {};
  const auto from = target.address.bytes();
  std::memcpy(bytes, from.data(), from.size());
  std::memcpy(&key.high, bytes, 8);
  std::memcpy(&key.low, bytes + 8, 8);
  key.rest = std::uint64_t{target.address.scope()} << 32 | std::uint64_t{target.port} << 8 |
             (traffic == Traffic::datagram ? 0x80u : 0u) | from.size();
  return key;
}

Slot& slot_of(const Key& key) noexcept {
  return table[((key.high ^ key.low ^ key.rest) * 0x9e3779b97f4a7c15ull >> 32) % slots];
}

}  // namespace

std::uint32_t verdict_epoch() noexcept {
  const Page* known = mapped_page();
  return known != nullptr ? known->epoch.load(std::memory_order_acquire) : 0;
}

bool known_direct(const Endpoint& target, Traffic traffic) noexcept {
  const Page* known = mapped_page();
  if (known == nullptr) return false;
  const Key key = key_of(target, traffic);
  Slot& slot = slot_of(key);
  const std::uint32_t before = slot.version.load(std::memory_order_acquire);
  const bool hit = (before & 1) == 0 && slot.high.load(std::memory_order_relaxed) == key.high &&
                   slot.low.load(std::memory_order_relaxed) == key.low &&
                   slot.rest.load(std::memory_order_relaxed) == key.rest &&
                   slot.page.load(std::memory_order_relaxed) == known->id &&
                   slot.epoch.load(std::memory_order_relaxed) == known->epoch.load(std::memory_order_acquire);
  std::atomic_thread_fence(std::memory_order_acquire);
  return hit && slot.version.load(std::memory_order_relaxed) == before;
}

void remember_direct(const Endpoint& target, std::uint32_t epoch, Traffic traffic) noexcept {
  const Page* known = mapped_page();
  if (known == nullptr) return;
  const Key key = key_of(target, traffic);
  Slot& slot = slot_of(key);
  std::uint32_t version = slot.version.load(std::memory_order_relaxed);
  if ((version & 1) != 0 || !slot.version.compare_exchange_strong(version, version + 1, std::memory_order_acquire))
    return;
  slot.high.store(key.high, std::memory_order_relaxed);
  slot.low.store(key.low, std::memory_order_relaxed);
  slot.rest.store(key.rest, std::memory_order_relaxed);
  slot.page.store(known->id, std::memory_order_relaxed);
  slot.epoch.store(epoch, std::memory_order_relaxed);
  slot.version.store(version + 2, std::memory_order_release);
}

}  // namespace towpath
