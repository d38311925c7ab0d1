#include "resolver/known_names.h"

#include <atomic>
#include <cstring>
#include <functional>
#include <utility>

namespace towpath {

namespace {

// In a bank; the name follows.
struct Record {
  std::uint8_t name_size;
  std::uint8_t is_v6;
  std::uint8_t address[16];
};

}  // namespace

struct KnownNames::Notes {
  std::uint32_t active;
  std::uint32_t used[2];
};

std::size_t KnownNames::Hash::operator()(const IpAddress& address) const noexcept {
  const auto bytes = address.bytes();
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

bool KnownNames::learn(std::string_view name, std::span<const IpAddress> addresses) {
  if (name.empty() || name.size() > longest_name || most_ == 0) return false;
  bool changed = false;
  // `name` may be a view that name_of() gave.
  const std::string learnt(name);
  for (const IpAddress& address : addresses) {
    if (!address) continue;
    if (const auto found = by_address_.find(address); found != by_address_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      if (found->second->name == learnt) continue;
      changed = true;
      found->second->name = learnt;
      note(entries_.front());
      continue;
    }
    changed = true;
    if (entries_.size() >= most_) {
      by_address_.erase(entries_.back().address);
      entries_.pop_back();
    }
    entries_.push_front({address, learnt});
    by_address_.emplace(address, entries_.begin());
    note(entries_.front());
  }
  return changed;
}

KnownNames::Notes& KnownNames::notes() const noexcept { return *reinterpret_cast<Notes*>(room_.data()); }

std::span<std::byte> KnownNames::bank(std::uint32_t number) const noexcept {
  const std::size_t size = (room_.size() - sizeof(Notes)) / 2;
  return room_.subspan(sizeof(Notes) + number * size, size);
}

void KnownNames::keep_in(std::span<std::byte> room) {
  if (room.size() < sizeof(Notes) + 4 * (sizeof(Record) + longest_name)) return;
  room_ = room;
  replay();
}

void KnownNames::replay() {
  if (notes().active > 1 || notes().used[notes().active] > bank(0).size()) notes() = Notes{};
  const std::span<std::byte> all = std::exchange(room_, {});  // what is read need not be noted down again
  const auto& head = *reinterpret_cast<const Notes*>(all.data());
  const std::size_t size = (all.size() - sizeof(Notes)) / 2;
  std::span<const std::byte> left = all.subspan(sizeof(Notes) + head.active * size, head.used[head.active]);
  Record record{};
  while (left.size() >= sizeof record) {
    std::memcpy(&record, left.data(), sizeof record);
    left = left.subspan(sizeof record);
    if (record.name_size == 0 || record.name_size > left.size()) break;
    const std::string name(reinterpret_cast<const char*>(left.data()), record.name_size);
    left = left.subspan(record.name_size);
    const std::uint8_t* const b = record.address;
    const IpAddress address =
        record.is_v6 != 0
            ? IpAddress::v6(record.address)
            : IpAddress::v4(std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3]);
    learn(name, {&address, 1});
  }
  room_ = all;
}

void KnownNames::note(const Entry& entry) {
  if (room_.empty()) return;
  const std::uint32_t active = notes().active;
  if (notes().used[active] + sizeof(Record) + entry.name.size() > bank(active).size()) return change_bank();
  append(active, entry);
}

void KnownNames::append(std::uint32_t number, const Entry& entry) noexcept {
  Record record{};
  record.name_size = static_cast<std::uint8_t>(entry.name.size());
  record.is_v6 = entry.address.is_v6() ? 1 : 0;
  const auto bytes = entry.address.bytes();
  std::memcpy(record.address, bytes.data(), bytes.size());
  std::byte* const to = bank(number).data() + notes().used[number];
  std::memcpy(to, &record, sizeof record);
  std::memcpy(to + sizeof record, entry.name.data(), entry.name.size());
  const auto size = static_cast<std::uint32_t>(sizeof record + entry.name.size());
  std::atomic_ref(notes().used[number]).store(notes().used[number] + size, std::memory_order_release);
}

// The entry that did not fit is the newest one, and among those that move.
void KnownNames::change_bank() {
  const std::uint32_t other = 1 - notes().active;
  notes().used[other] = 0;
  std::size_t room = bank(other).size() * 3 / 4;  // so that the next change is a while away
  auto oldest = entries_.begin();
  for (; oldest != entries_.end() && room >= sizeof(Record) + oldest->name.size(); ++oldest)
    room -= sizeof(Record) + oldest->name.size();
  while (oldest != entries_.begin()) append(other, *--oldest);
  std::atomic_ref(notes().active).store(other, std::memory_order_release);
}

std::string_view KnownNames::name_of(const IpAddress& address) {
  const auto found = by_address_.find(address);
  if (found == by_address_.end()) return {};
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->name;
}

}  // namespace towpath
