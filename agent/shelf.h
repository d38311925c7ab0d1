// Descriptors that lie in flight between two ends of a socket pair (Kept): they outlive the agent that put them there,
// and no process holds them at a number. Taking empties the shelf; whoever takes puts back what is still wanted.
#pragma once

#include <cstdint>
#include <optional>

#include "base/unique_fd.h"

namespace towpath {

class Shelf {
 public:
  struct Item {
    UniqueFd fd;
    std::uint64_t note = 0;
  };

  // Both borrowed; -1: there is no shelf, and nothing is kept.
  Shelf(int in, int out) noexcept : in_(in), out_(out) {}

  [[nodiscard]] bool put(int fd, std::uint64_t note = 0) const noexcept;
  [[nodiscard]] std::optional<Item> take() const noexcept;

 private:
  int in_, out_;
};

}  // namespace towpath
