// Which name an address was learnt under: what the program's own resolver answered, so that a later connect
// to the address knows the name. A bounded table; the least recently used address is forgotten first.
#pragma once

#include <cstddef>
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

 private:
  struct Entry {
    IpAddress address;
    std::string name;
  };
  struct Hash {
    std::size_t operator()(const IpAddress& address) const noexcept;
  };

  std::size_t most_;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<IpAddress, std::list<Entry>::iterator, Hash> by_address_;
};

}  // namespace towpath
