// What the agent counts of itself, from its start on; a later agent begins with nothing. Plain numbers of one thread:
// raising one is an addition, everything else is done for whoever asks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>

#include "base/error.h"
#include "config/proxy_url.h"

namespace towpath {

// Cumulative when it is told, not when it is counted.
class LatencyHistogram {
 public:
  static constexpr std::array<std::uint32_t, 14> bounds_ms{1,   2,   5,    10,   25,   50,    100,
                                                           250, 500, 1000, 2500, 5000, 10000, 30000};

  void add(std::uint64_t ms) noexcept;
  // How many took at most bounds_ms[at].
  [[nodiscard]] std::uint64_t up_to(std::size_t at) const noexcept;
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t sum_ms() const noexcept { return sum_ms_; }
  // The bound that at least this share (0 to 1) stayed below; 0 when there is none.
  [[nodiscard]] std::uint32_t bound_of(double share) const noexcept;

 private:
  std::array<std::uint64_t, bounds_ms.size()> counts_{};
  std::uint64_t count_ = 0, sum_ms_ = 0;
};

inline constexpr std::size_t err_count = 0
#define ERR(name, number, text) +1
#include "base/errors.def"
#undef ERR
    ;

struct ProxyCounters {
  std::string display;                              // ProxyUrl::display(), or "direct"
  std::uint64_t opened = 0;                         // tunnels that the proxy granted
  std::uint64_t absolute = 0;                       // connections that it is asked for per request (plain HTTP)
  std::uint64_t fallbacks = 0;                      // of these, after it refused to tunnel
  std::array<std::uint64_t, err_count> failures{};  // by Err
  LatencyHistogram handshake;                       // from the program's connect to the open tunnel
};

class Stats {
 public:
  // More proxies than that (a configuration that is changed all the time) share the last entry.
  static constexpr std::size_t most_proxies = 256;

  Stats();

  // Null: the connections without a proxy.
  [[nodiscard]] ProxyCounters& of(const ProxyUrl* proxy);
  [[nodiscard]] const std::list<ProxyCounters>& proxies() const noexcept { return proxies_; }
  [[nodiscard]] std::int64_t started_unix() const noexcept { return started_unix_; }

  std::uint64_t direct = 0, tunnel = 0, refused = 0;  // decisions

 private:
  struct Known {
    ProxyScheme scheme;
    std::uint16_t port;
    std::string host;
    ProxyCounters* counters;
  };
  std::list<ProxyCounters> proxies_;  // the first one: direct
  std::list<Known> known_;
  std::int64_t started_unix_;
};

}  // namespace towpath
