#include "resolver/synthetic_names.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace towpath {

namespace {
constexpr std::array<char, 8> magic = {'t', 'o', 'w', 'n', 'a', 'm', 'e', 's'};
constexpr std::uint32_t version = 2;
constexpr std::size_t page = 4096;
constexpr std::size_t longest_name = 253;
constexpr std::array<std::uint8_t, 8> ula = {0xfd, 0x74, 0x6f, 0x77, 0x70, 0x61, 0x74, 0x68};
constexpr unsigned memfd_noexec_seal = 8;  // MFD_NOEXEC_SEAL, Linux 6.3; demanded by vm.memfd_noexec=2
constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::uint64_t hash_of(std::string_view name) noexcept {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

std::uint32_t folded(std::uint64_t hash) noexcept { return static_cast<std::uint32_t>(hash ^ (hash >> 32)); }

// What address_of() takes is what adopt() accepts.
bool is_storable(std::string_view name) noexcept {
  return !name.empty() && name.size() <= longest_name &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f' && (c < 'A' || c > 'Z'); });
}

// An entry's reference to its text: one word, so that it changes in one store.
struct TextRef {
  std::uint32_t offset;  // 24 bits
  std::uint32_t size;    // 8 bits
  std::uint32_t check;   // folded hash of the text
};
std::uint64_t packed(TextRef ref) noexcept {
  return std::uint64_t{ref.check} << 32 | std::uint64_t{ref.offset} << 8 | ref.size;
}
TextRef unpacked(std::uint64_t word) noexcept {
  return {static_cast<std::uint32_t>(word >> 8 & 0xffffff), static_cast<std::uint32_t>(word & 0xff),
          static_cast<std::uint32_t>(word >> 32)};
}

std::uint32_t clamped(std::uint64_t seconds) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(seconds, std::numeric_limits<std::uint32_t>::max()));
}

template <class T>
T load_shared(T& value) noexcept {
  return std::atomic_ref<T>(value).load(std::memory_order_acquire);
}
template <class T>
void store_shared(T& value, T next) noexcept {
  std::atomic_ref<T>(value).store(next, std::memory_order_release);
}

UniqueFd new_memfd() noexcept {
  UniqueFd fd(::memfd_create("towpath-names", MFD_CLOEXEC | MFD_ALLOW_SEALING | memfd_noexec_seal));
  if (!fd && errno == EINVAL) fd.reset(::memfd_create("towpath-names", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  return fd;
}

std::string os_reason(const char* what, int number) {
  return std::string(what) + ": " + ::strerrordesc_np(number);  // strerror would want a locale
}
}  // namespace

struct SyntheticNames::Header {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t entry_size;
  std::uint32_t network;
  std::uint32_t bits;
  std::uint32_t usable;
  std::uint32_t arena_size;
  std::uint32_t active;    // the bank that counts
  std::uint32_t count[2];  // entries in each bank
};

struct SyntheticNames::Entry {
  std::uint64_t text;  // packed TextRef
  std::uint32_t slot;
  std::uint32_t last_use;  // seconds
};

void SyntheticNames::Unmap::operator()(std::byte* start) const noexcept { ::munmap(start, size); }

std::optional<SyntheticNames::Layout> SyntheticNames::layout_for(Range v4, std::string& why) {
  if (!v4.network.is_v4() || v4.bits < 8 || v4.bits > 30) {
    why = "synthetic range: expected an IPv4 network of 8 to 30 bits";
    return {};
  }
  Layout out;
  out.bits = v4.bits;
  out.network = v4.network.v4_number() & ~((std::uint32_t{1} << (32 - v4.bits)) - 1);
  out.usable = std::min((std::uint32_t{1} << (32 - v4.bits)) - 2, most_names);
  out.arena_size = std::max(out.usable * 64, std::uint32_t{16384});
  out.bank_size = (out.usable * sizeof(Entry) + out.arena_size + page - 1) / page * page;
  out.file_size = page + 2 * out.bank_size + spare_size;
  return out;
}

std::optional<SyntheticNames> SyntheticNames::create(Range v4, std::string& why) {
  const auto layout = layout_for(v4, why);
  if (!layout) return {};
  UniqueFd memfd = new_memfd();
  if (!memfd || ::ftruncate(memfd.get(), static_cast<off_t>(layout->file_size)) == -1 ||
      ::fcntl(memfd.get(), F_ADD_SEALS, seals) == -1) {
    const int saved = errno;
    why = os_reason("name table", saved);
    return {};
  }
  std::optional<SyntheticNames> out = SyntheticNames();
  if (!out->map(std::move(memfd), *layout, why)) return {};
  // A complete header is one whose magic is there.
  Header& header = out->header();
  header.version = version;
  header.entry_size = sizeof(Entry);
  header.network = layout->network;
  header.bits = layout->bits;
  header.usable = layout->usable;
  header.arena_size = layout->arena_size;
  std::atomic_signal_fence(std::memory_order_release);
  header.magic = magic;
  return out;
}

std::optional<SyntheticNames> SyntheticNames::adopt(UniqueFd memfd, Range v4, std::string& why) {
  const auto layout = layout_for(v4, why);
  if (!layout) return {};
  // Without the seal somebody could shrink the file under the mapping: SIGBUS.
  const int found = ::fcntl(memfd.get(), F_GET_SEALS);
  struct stat status {};
  if (found == -1 || (found & F_SEAL_SHRINK) == 0 || ::fstat(memfd.get(), &status) == -1) {
    why = "name table: not a sealed memfd";
    return {};
  }
  if (status.st_size < static_cast<off_t>(page)) {
    why = "name table: too short";
    return {};
  }
  Header header{};
  if (::pread(memfd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header) || header.magic != magic ||
      header.version != version || header.entry_size != sizeof(Entry)) {
    why = "name table: of another version, or damaged";
    return {};
  }
  if (header.network != layout->network || header.bits != layout->bits || header.usable != layout->usable ||
      header.arena_size != layout->arena_size || status.st_size != static_cast<off_t>(layout->file_size)) {
    why = "name table: made for another synthetic range, or damaged";
    return {};
  }
  std::optional<SyntheticNames> out = SyntheticNames();
  if (!out->map(std::move(memfd), *layout, why) || !out->load(why)) return {};
  return out;
}

bool SyntheticNames::map(UniqueFd memfd, const Layout& layout, std::string& why) {
  void* start = ::mmap(nullptr, layout.file_size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (start == MAP_FAILED) {
    const int saved = errno;
    why = os_reason("name table: mmap", saved);
    return false;
  }
  map_ = std::unique_ptr<std::byte, Unmap>(static_cast<std::byte*>(start), Unmap{layout.file_size});
  fd_ = std::move(memfd);
  layout_ = layout;
  return true;
}

// Builds the private indices from the active bank.
bool SyntheticNames::load(std::string& why) {
  by_hash_.clear();
  by_slot_.clear();
  count_ = arena_used_ = text_live_ = 0;
  nothing_old_before_ = 0;
  active_ = load_shared(header().active);
  const std::uint32_t count = active_ > 1 ? layout_.usable + 1 : load_shared(header().count[active_]);
  if (count > layout_.usable) {
    active_ = 0;
    why = "name table: damaged header";
    return false;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const Entry& entry = entries(active_)[i];
    const std::uint32_t slot = entry.slot;
    const TextRef ref = unpacked(entry.text);
    const std::string_view name = text_of(entry);
    const std::uint64_t hash = hash_of(name);
    if (slot >= layout_.usable || !is_storable(name) || folded(hash) != ref.check || find(name, hash) ||
        !by_slot_.emplace(slot, i).second) {
      why = "name table: entry " + std::to_string(i) + " is damaged";
      return false;
    }
    by_hash_.emplace(hash, i);
    arena_used_ = std::max(arena_used_, ref.offset + ref.size);
    text_live_ += ref.size;
  }
  count_ = count;
  return true;
}

SyntheticNames::Header& SyntheticNames::header() const noexcept { return *reinterpret_cast<Header*>(map_.get()); }

SyntheticNames::Entry* SyntheticNames::entries(std::uint32_t bank) const noexcept {
  return reinterpret_cast<Entry*>(map_.get() + page + bank * layout_.bank_size);
}

char* SyntheticNames::arena(std::uint32_t bank) const noexcept {
  return reinterpret_cast<char*>(entries(bank) + layout_.usable);
}

// Checked at every use: whoever has the descriptor can write the file.
std::string_view SyntheticNames::text_of(const Entry& entry) const noexcept {
  const TextRef ref = unpacked(load_shared(const_cast<Entry&>(entry).text));
  if (ref.offset > layout_.arena_size || ref.size > layout_.arena_size - ref.offset) return {};
  return {arena(active_) + ref.offset, ref.size};
}

SyntheticNames::Pair SyntheticNames::pair_of(std::uint32_t slot) const noexcept {
  std::array<std::uint8_t, 16> bytes{};
  std::copy(ula.begin(), ula.end(), bytes.begin());
  const std::uint32_t number = slot + 1;
  for (unsigned i = 0; i < 4; ++i) bytes[12 + i] = static_cast<std::uint8_t>(number >> (24 - 8 * i));
  return {IpAddress::v4(layout_.network + number), IpAddress::v6(bytes)};
}

std::optional<std::uint32_t> SyntheticNames::slot_of(const IpAddress& address) const noexcept {
  if (!contains(address)) return {};
  std::uint64_t number = 0;
  if (address.is_v4()) {
    number = address.v4_number() - layout_.network;
  } else {
    for (const std::uint8_t byte : address.bytes().subspan(8)) number = number << 8 | byte;
  }
  if (number == 0 || number > layout_.usable) return {};
  return static_cast<std::uint32_t>(number - 1);
}

bool SyntheticNames::contains(const IpAddress& address) const noexcept {
  if (address.is_v4()) return address.in_prefix(IpAddress::v4(layout_.network), layout_.bits);
  return address.is_v6() && std::memcmp(address.bytes().data(), ula.data(), ula.size()) == 0;
}

std::string_view SyntheticNames::name_of(const IpAddress& address, std::uint64_t now_seconds) {
  const auto slot = slot_of(address);
  if (!slot) return {};
  const auto found = by_slot_.find(*slot);
  if (found == by_slot_.end()) return {};
  Entry& entry = entries(active_)[found->second];
  store_shared(entry.last_use, std::max(entry.last_use, clamped(now_seconds)));
  return text_of(entry);
}

std::optional<SyntheticNames::Pair> SyntheticNames::address_of(std::string_view name, std::uint64_t now_seconds) {
  if (!is_storable(name)) return {};
  const std::uint64_t hash = hash_of(name);
  if (const auto index = find(name, hash)) {
    Entry& entry = entries(active_)[*index];
    store_shared(entry.last_use, std::max(entry.last_use, clamped(now_seconds)));
    return pair_of(entry.slot % layout_.usable);
  }
  if (!make_text_room(name.size(), now_seconds)) return {};
  if (count_ < layout_.usable) {
    const std::uint32_t slot = free_slot(hash);
    append(name, hash, slot, now_seconds);
    return pair_of(slot);
  }
  const auto index = longest_unused(now_seconds);
  if (!index) return {};
  replace(*index, name, hash, now_seconds);
  return pair_of(entries(active_)[*index].slot % layout_.usable);
}

std::optional<std::uint32_t> SyntheticNames::find(std::string_view name, std::uint64_t hash) const noexcept {
  const auto [begin, end] = by_hash_.equal_range(hash);
  for (auto at = begin; at != end; ++at)
    if (text_of(entries(active_)[at->second]) == name) return at->second;
  return {};
}

// Only when one is free.
std::uint32_t SyntheticNames::free_slot(std::uint64_t hash) const noexcept {
  std::uint32_t slot = folded(hash) % layout_.usable;
  while (by_slot_.contains(slot)) slot = (slot + 1) % layout_.usable;
  return slot;
}

// A scan of all entries, but not again before one of them can have become old.
std::optional<std::uint32_t> SyntheticNames::longest_unused(std::uint64_t now_seconds) noexcept {
  if (count_ == 0 || now_seconds < nothing_old_before_) return {};
  const Entry* begin = entries(active_);
  const Entry* oldest =
      std::min_element(begin, begin + count_, [](const Entry& a, const Entry& b) { return a.last_use < b.last_use; });
  nothing_old_before_ = oldest->last_use + reuse_after_seconds;
  if (now_seconds < nothing_old_before_) return {};
  return static_cast<std::uint32_t>(oldest - begin);
}

// Texts of replaced entries are dead weight until the arena is full. Then it is compacted; when the living
// ones alone fill it, names unused for 24 h are forgotten, an eighth of the arena at once, so that
// a long run of new names does not compact for each of them.
bool SyntheticNames::make_text_room(std::size_t size, std::uint64_t now_seconds) {
  if (arena_used_ + size <= layout_.arena_size) return true;
  if (text_live_ + size <= layout_.arena_size - layout_.arena_size / 16)
    return rewrite_without(0, 0) && arena_used_ + size <= layout_.arena_size;
  if (longest_unused(now_seconds)) {
    const std::uint64_t limit = now_seconds - reuse_after_seconds;
    return rewrite_without(clamped(limit), layout_.arena_size / 8) && arena_used_ + size <= layout_.arena_size;
  }
  if (text_live_ + size > layout_.arena_size) return false;
  return rewrite_without(0, 0) && arena_used_ + size <= layout_.arena_size;
}

// Writes the other bank, without entries last used at or before `last_use_limit` until that freed
// `bytes_to_free`, longest unused first; then switches to it.
bool SyntheticNames::rewrite_without(std::uint32_t last_use_limit, std::size_t bytes_to_free) {
  const Entry* from = entries(active_);
  std::vector<bool> dropped(count_);
  if (bytes_to_free != 0) {
    std::vector<std::uint32_t> old;
    for (std::uint32_t i = 0; i < count_; ++i)
      if (from[i].last_use <= last_use_limit) old.push_back(i);
    std::sort(old.begin(), old.end(), [from](auto a, auto b) { return from[a].last_use < from[b].last_use; });
    std::size_t freed = 0;
    for (std::size_t i = 0; i < old.size() && freed < bytes_to_free; ++i) {
      dropped[old[i]] = true;
      freed += text_of(from[old[i]]).size();
    }
  }
  const std::uint32_t other = 1 - active_;
  store_shared(header().count[other], std::uint32_t{0});
  std::uint32_t kept = 0, used = 0;
  for (std::uint32_t i = 0; i < count_; ++i) {
    const std::string_view name = text_of(from[i]);
    if (dropped[i] || name.size() > layout_.arena_size - used) continue;
    std::memcpy(arena(other) + used, name.data(), name.size());
    TextRef ref = unpacked(from[i].text);
    ref.offset = used;
    entries(other)[kept++] = Entry{packed(ref), from[i].slot, from[i].last_use};
    used += static_cast<std::uint32_t>(name.size());
  }
  store_shared(header().count[other], kept);
  store_shared(header().active, other);
  // Gives the pages back; only a saving, so a failure does not matter.
  const std::size_t start = page + (1 - other) * layout_.bank_size;
  (void)::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start),
                    static_cast<off_t>(layout_.bank_size));
  std::string ignored;
  return load(ignored);
}

std::uint64_t SyntheticNames::store_text(std::string_view name, std::uint64_t hash) noexcept {
  const TextRef ref{arena_used_, static_cast<std::uint32_t>(name.size()), folded(hash)};
  std::memcpy(arena(active_) + arena_used_, name.data(), name.size());
  arena_used_ += ref.size;
  text_live_ += ref.size;
  return packed(ref);
}

void SyntheticNames::append(std::string_view name, std::uint64_t hash, std::uint32_t slot, std::uint64_t now_seconds) {
  entries(active_)[count_] = Entry{store_text(name, hash), slot, clamped(now_seconds)};
  by_hash_.emplace(hash, count_);
  by_slot_.emplace(slot, count_);
  store_shared(header().count[active_], ++count_);
}

void SyntheticNames::replace(std::uint32_t index, std::string_view name, std::uint64_t hash,
                             std::uint64_t now_seconds) {
  Entry& entry = entries(active_)[index];
  const std::string_view former = text_of(entry);
  const auto [begin, end] = by_hash_.equal_range(hash_of(former));
  for (auto at = begin; at != end; ++at) {
    if (at->second != index) continue;
    by_hash_.erase(at);
    break;
  }
  text_live_ -= static_cast<std::uint32_t>(former.size());
  const std::uint64_t text = store_text(name, hash);
  store_shared(entry.last_use, clamped(now_seconds));
  store_shared(entry.text, text);
  by_hash_.emplace(hash, index);
}

}  // namespace towpath
