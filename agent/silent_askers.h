// Connections to the control socket that have not asked anything. Whoever made one may have been stopped before it
// spoke (job control, a debugger, a frozen group), and gets its answer whenever it goes on. Only a crowd of them is
// bounded: then the oldest goes.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>

namespace towpath {

class Conversation;

class SilentAskers {
 public:
  SilentAskers();

  // Ends the oldest one when there are too many.
  void add(Conversation& talk);
  void remove(Conversation& talk) noexcept;
  // False: there is none.
  bool drop_oldest();

 private:
  std::size_t most_;
  std::map<std::uint64_t, Conversation*> by_age_;
  std::unordered_map<Conversation*, std::uint64_t> ages_;
  std::uint64_t last_ = 0;
};

}  // namespace towpath
