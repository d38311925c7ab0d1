// The table name <-> synthetic address. It lives in a memfd, so that it survives the agent: the
// launcher keeps the descriptor and every new agent adopts it. Programs keep an address for months,
// so an address must never come to stand for another name while it may be in use.
//
// - The same name gets the same address on every run and in every version: the slot is FNV-1a 64 of
//   the name (offset basis 14695981039346656037, prime 1099511628211), upper half folded into the
//   lower by XOR, modulo the number of usable addresses; on a collision the next free one.
// - Slot i is IPv4 network + 1 + i and IPv6 fd74:6f77:7061:7468:: + 1 + i ("towpath" in ASCII). The
//   first and the last address of the range are not used, nor are those beyond `most_names`.
// - A name is forgotten only when no address or no room for text is left, and then only when it was
//   unused for 24 h.
// - Memory touched is proportional to the names: about 50 bytes of the memfd and 80 private ones each.
//
// The file: a page with the header, then two banks, of which one is active. A bank is an array of
// 16 byte entries and an arena for their texts. An entry is written behind the last one and then
// counted; it gets another text by one aligned 64 bit store; forgetting and compacting write the
// other bank and then switch. So a process that is killed anywhere leaves a valid table.
//
// Not thread-safe; one writer at a time. `now_seconds` is any clock that all agents on this table
// share and that does not jump (CLOCK_BOOTTIME).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/endpoint.h"
#include "base/unique_fd.h"

namespace towpath {

class SyntheticNames {
 public:
  // `bits` from 8 to 30; host bits of `network` are ignored.
  struct Range {
    IpAddress network;
    unsigned bits = 0;
  };
  struct Pair {
    IpAddress v4, v6;
  };
  static constexpr std::uint32_t most_names = 131070;         // a /15
  static constexpr std::size_t spare_size = 8 * 1024 * 1024;  // takes memory only where it is written
  static constexpr std::uint64_t reuse_after_seconds = 24 * 60 * 60;

  // A new, empty table. `why` gets the reason when there is none.
  [[nodiscard]] static std::optional<SyntheticNames> create(Range v4, std::string& why);
  // The table of an earlier agent. Everything in it is untrusted; a damaged table, one of another
  // version or one that was made for another range is refused, and `memfd` closed.
  [[nodiscard]] static std::optional<SyntheticNames> adopt(UniqueFd memfd, Range v4, std::string& why);

  // Close-on-exec; owned by the table.
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // Finds or makes. `name` is lower-case ACE without trailing dot; nullopt when it is not (empty, over 253
  // bytes, not printable), or when the table is full of names that are younger than 24 h.
  [[nodiscard]] std::optional<Pair> address_of(std::string_view name, std::uint64_t now_seconds);
  // "" = stands for no name. Counts as a use. The view is valid until the next non-const call.
  [[nodiscard]] std::string_view name_of(const IpAddress& address, std::uint64_t now_seconds);
  // Inside the whole IPv4 range or the IPv6 /64, handed out or not.
  [[nodiscard]] bool contains(const IpAddress& address) const noexcept;
  // Room behind the table that survives with it, for whatever else its owner must not forget. Zeroes in a new table.
  [[nodiscard]] std::span<std::byte> spare() const noexcept {
    return {map_.get() + layout_.file_size - spare_size, spare_size};
  }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return layout_.usable; }

 private:
  struct Header;
  struct Entry;
  struct Layout {
    std::uint32_t network = 0;
    std::uint32_t bits = 0;
    std::uint32_t usable = 0;
    std::uint32_t arena_size = 0;
    std::size_t bank_size = 0;
    std::size_t file_size = 0;
  };
  struct Unmap {
    std::size_t size;
    void operator()(std::byte* start) const noexcept;
  };

  SyntheticNames() = default;
  static std::optional<Layout> layout_for(Range v4, std::string& why);
  bool map(UniqueFd memfd, const Layout& layout, std::string& why);
  bool load(std::string& why);

  Header& header() const noexcept;
  Entry* entries(std::uint32_t bank) const noexcept;
  char* arena(std::uint32_t bank) const noexcept;
  std::string_view text_of(const Entry& entry) const noexcept;
  Pair pair_of(std::uint32_t slot) const noexcept;
  std::optional<std::uint32_t> slot_of(const IpAddress& address) const noexcept;

  std::optional<std::uint32_t> find(std::string_view name, std::uint64_t hash) const noexcept;
  std::optional<std::uint32_t> longest_unused(std::uint64_t now_seconds) noexcept;
  std::uint32_t free_slot(std::uint64_t hash) const noexcept;
  bool make_text_room(std::size_t size, std::uint64_t now_seconds);
  bool rewrite_without(std::uint32_t last_use_limit, std::size_t bytes_to_free);
  std::uint64_t store_text(std::string_view name, std::uint64_t hash) noexcept;
  void append(std::string_view name, std::uint64_t hash, std::uint32_t slot, std::uint64_t now_seconds);
  void replace(std::uint32_t index, std::string_view name, std::uint64_t hash, std::uint64_t now_seconds);

  UniqueFd fd_;
  std::unique_ptr<std::byte, Unmap> map_;
  Layout layout_;
  // Private copies and indices of what the active bank holds.
  std::uint32_t active_ = 0;
  std::uint32_t count_ = 0;
  std::uint32_t arena_used_ = 0;  // texts end here, replaced ones included
  std::uint32_t text_live_ = 0;
  std::uint64_t nothing_old_before_ = 0;
  std::unordered_multimap<std::uint64_t, std::uint32_t> by_hash_;  // hash of the name -> entry
  std::unordered_map<std::uint32_t, std::uint32_t> by_slot_;       // slot -> entry
};

}  // namespace towpath
