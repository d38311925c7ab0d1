// A look at an agent that lives and does nothing: stopped, or in a loop that does not turn. The agent raises a word
// of the published page every second.
#pragma once

#include <cstdint>

#include <sys/types.h>

namespace towpath {

inline constexpr int look_ms = 2000;

class HangWatch {
 public:
  explicit HangWatch(int page);
  ~HangWatch();
  HangWatch(const HangWatch&) = delete;
  HangWatch& operator=(const HangWatch&) = delete;

  // Another agent from now on.
  void begin_anew() noexcept { still_ = 0; }
  // To be called whenever this process is awake. True: the agent has not turned its loop for several looks. Only looks
  // count and not the time that passed: where this process is stopped, frozen or without a processor, so may the agent
  // be.
  [[nodiscard]] bool hangs(pid_t agent);

 private:
  static constexpr int most_still = 3;

  const void* page_ = nullptr;
  std::uint32_t seen_ = 0;
  std::int64_t looked_ms_ = 0;
  int still_ = 0;
};

}  // namespace towpath
