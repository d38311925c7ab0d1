#include "preload/pending.h"

#include <atomic>

#include "preload/process.h"

namespace towpath {

namespace {

// A cookie that is being asked about has `asking` set: the agent may not have made its entry yet.
constexpr std::uint64_t asking = std::uint64_t{1} << 63;
constexpr std::size_t slots = 1024;
constinit std::atomic<std::uint64_t> own[slots]{};
constinit std::atomic<std::uint32_t> used{0};
constinit std::atomic<std::uint32_t> hint{0};  // where a pending one was seen last
// More than the table holds: from then on this process looks whenever anything in the tree is pending.
constinit std::atomic<bool> overflown{false};
// Descriptors came while something in the tree was pending.
constinit std::atomic<bool> received{false};
constinit std::atomic<bool> ever{false};

bool may_be_held(std::uint64_t word) noexcept {
  if ((word & asking) != 0) return true;
  const PageEntry* entry = known_socket_entry(word);
  if (entry == nullptr) return false;
  const SocketState state = state_of(*entry);
  return state == SocketState::pending || state == SocketState::lost ||
         entry->held.load(std::memory_order_acquire) != 0;
}

// The slot, -1 for none.
int add(std::uint64_t word) noexcept {
  ever.store(true, std::memory_order_relaxed);
  if ((word & ~asking) == 0) return -1;
  // Counted first: a reader that sees the count sees at worst a slot that is not written yet.
  used.fetch_add(1, std::memory_order_acq_rel);
  for (std::size_t i = 0; i < slots; ++i) {
    std::uint64_t free = 0;
    if (own[i].load(std::memory_order_relaxed) == 0 && own[i].compare_exchange_strong(free, word))
      return static_cast<int>(i);
  }
  used.fetch_sub(1, std::memory_order_acq_rel);
  overflown.store(true, std::memory_order_release);
  return -1;
}

}  // namespace

OwnConnect::OwnConnect(std::uint64_t cookie) noexcept : cookie_(cookie), slot_(add(cookie | asking)) {}

OwnConnect::~OwnConnect() {
  if (slot_ >= 0) own[slot_].store(cookie_, std::memory_order_release);
}

void note_inherited(std::uint64_t cookie) noexcept { (void)add(cookie); }

void note_received(const msghdr& message) noexcept {
  if (!ever.load(std::memory_order_relaxed) || received.load(std::memory_order_relaxed) || !tree_pending()) return;
  for (const cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
       head = CMSG_NXTHDR(const_cast<msghdr*>(&message), const_cast<cmsghdr*>(head)))
    if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
      received.store(true, std::memory_order_release);
}

bool own_pending() noexcept {
  const bool flagged = received.load(std::memory_order_acquire) || overflown.load(std::memory_order_acquire);
  if (!flagged && used.load(std::memory_order_acquire) == 0) return false;
  if (!tree_pending()) {
    // What was passed to us is settled.
    received.store(false, std::memory_order_release);
    return false;
  }
  if (flagged) return true;
  const std::uint32_t start = hint.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < slots && used.load(std::memory_order_acquire) != 0; ++i) {
    auto& each = own[(start + i) % slots];
    std::uint64_t word = each.load(std::memory_order_acquire);
    if (word == 0) continue;
    if (may_be_held(word)) {
      hint.store((start + i) % slots, std::memory_order_relaxed);
      return true;
    }
    if (each.compare_exchange_strong(word, 0)) used.fetch_sub(1, std::memory_order_acq_rel);
  }
  return false;
}

}  // namespace towpath
