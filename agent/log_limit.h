// How often one kind of line may be written: a burst per window, the rest is counted. Pure: the caller has the clock.
//
//   admit()    once per line; `suppressed` is how many of its kind were left out before it and have not been told yet
//   overdue()  the kinds whose window has ended with something left out; each is told once
//             (`all`: before its end as well, because there will be nobody to tell it then)
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace towpath {

class LogLimit {
 public:
  static constexpr std::uint32_t burst = 20;
  static constexpr std::uint64_t window_ms = 10'000;
  static constexpr std::size_t most_kinds = 1024;

  struct Kind {
    std::string event, target, cause;
    int level = 0;
    int pid = 0;  // whose log the line goes to; 0: there is one for all

    friend bool operator==(const Kind&, const Kind&) = default;
  };
  struct Pass {
    bool write = true;
    bool first_suppressed = false;  // of this window: somebody should look at its end
    std::uint64_t suppressed = 0;   // tell it with this line
  };
  struct Told {
    Kind kind;
    std::uint64_t suppressed = 0;
  };

  [[nodiscard]] Pass admit(const Kind& kind, std::uint64_t now_ms);
  [[nodiscard]] std::vector<Told> overdue(std::uint64_t now_ms, bool all = false);
  // All that was ever left out.
  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
  // Is anything left out that overdue() has not told?
  [[nodiscard]] bool pending() const noexcept;

 private:
  struct Window {
    std::uint64_t since_ms = 0;
    std::uint32_t written = 0;
    std::uint64_t suppressed = 0;
  };
  struct Hash {
    std::size_t operator()(const Kind& kind) const noexcept;
  };
  // With more kinds than that at once the new ones are not limited: they are different lines, after all.
  [[nodiscard]] bool make_room(std::uint64_t now_ms);

  std::unordered_map<Kind, Window, Hash> windows_;
  std::uint64_t total_ = 0;
};

}  // namespace towpath
