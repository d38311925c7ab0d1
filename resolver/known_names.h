// Which name an address was learnt under: what the program's own resolver answered, so that a later connect
// to the address knows the name. A bounded table; the least recently used address is forgotten first.
//
// A program keeps what it resolved, so the next agent has to know it too: with keep_in() the table notes down what it
// learns in shared memory. There are two banks of records, of which one counts; a record is there once its bank's
// `used` covers it. A full bank is left for the other, with the newest entries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/endpoint.h"

namespace towpath {

class KnownNames {
 public:
  static constexpr std::size_t longest_name = 255;

  explicit KnownNames(std::size_t most = 65536) : most_(most) {}

  // The newest name of an address wins. Empty or too long names and family-less addresses are ignored; of
  // more addresses than the table holds the last ones stay.
  // True when an address has another name than before (or one for the first time).
  bool learn(std::string_view name, std::span<const IpAddress> addresses);
  // "" = not known. Counts as a use. The view is valid until the next non-const call.
  [[nodiscard]] std::string_view name_of(const IpAddress& address);
  [[nodiscard]] std::size_t size() const noexcept { return by_address_.size(); }

  // Learns what an earlier table noted down in `room`, and notes down there what is learnt from now on. What is found
  // is untrusted. Zeroes are an empty room; it must be aligned for a number and outlive the table.
  void keep_in(std::span<std::byte> room);

 private:
  struct Entry {
    IpAddress address;
    std::string name;
  };
  struct Hash {
    std::size_t operator()(const IpAddress& address) const noexcept;
  };
  struct Notes;  // the head of the room

  void replay();
  void note(const Entry& entry);
  void change_bank();
  void append(std::uint32_t bank, const Entry& entry) noexcept;
  [[nodiscard]] Notes& notes() const noexcept;
  [[nodiscard]] std::span<std::byte> bank(std::uint32_t number) const noexcept;

  std::size_t most_;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<IpAddress, std::list<Entry>::iterator, Hash> by_address_;
  std::span<std::byte> room_;  // empty: nothing is noted down
};

}  // namespace towpath
