// Which proxies can be reached, as far as the connects have shown, and in which order a connect tries them. Nothing is
// probed: what programs want is all that is ever sent to a proxy.
//
//   healthy      tried in its place of the list
//   backing off  after a failure: tried behind all healthy ones, so that no connect fails untried. For 1 s, and twice as
//                long after each trial that fails, up to 60 s
//   on trial     the back-off has passed: one connect at a time finds it in its place again, all others behind
//
// A proxy that answers is reached, whatever it answers: refusals are final (agent/attempt.h) and no matter of health.
// Evidence has the age of the attempt that brings it: an old failure does not speak against a newer success.
//
// Keyed by scheme, host, port and user, so that health outlives a change of the configuration. Pure but for its two
// lines of log: the caller brings the time (milliseconds of one clock).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/log.h"
#include "config/policy.h"

namespace towpath {

class ProxyPool {
 public:
  static constexpr std::uint64_t first_back_off_ms = 1000;
  static constexpr std::uint64_t longest_back_off_ms = 60 * 1000;

  // The order for one connect: every proxy of the list, once. Points into the list.
  struct Plan {
    std::vector<const ProxyUrl*> order;
    const ProxyUrl* trial = nullptr;  // reserved for this connect, which ends with one of the three below
  };

  // For `status` and metrics; never credentials.
  struct Health {
    std::string proxy;  // "http://proxy:3128"
    bool healthy = true;
    unsigned failures = 0;  // without a success in between
    std::string cause;      // of the last failure; stays after a recovery
    std::uint64_t next_trial_ms = 0;  // from now; 0: healthy, or at the next connect
    std::string lists;                // "http", "http, all"
  };

  explicit ProxyPool(const Log& log) : log_(log) {}

  // Before the first connect, and at every change of the configuration: what is in both keeps its health.
  void adopt(const Policy& policy);

  [[nodiscard]] Plan plan(std::span<const ProxyUrl> list, std::uint64_t now_ms);
  // `began_ms`: when the attempt turned to this proxy. `instead`: what is tried next; null when nothing is left.
  void unreachable(const ProxyUrl& proxy, std::string_view cause, const ProxyUrl* instead, std::uint64_t began_ms,
                   std::uint64_t now_ms);
  void reached(const ProxyUrl& proxy, std::uint64_t began_ms);
  // The connect ended and tells nothing about the proxy: another one may try it.
  void let_go(const ProxyUrl& proxy);

  // In the order of the lists http, https, all; every proxy once.
  [[nodiscard]] std::vector<Health> health(std::uint64_t now_ms) const;

 private:
  struct Entry {
    ProxyUrl proxy;
    std::string lists;
    bool shared = false;  // has others in one of its lists: a change is worth a line
    bool healthy = true, on_trial = false;
    unsigned failures = 0;
    std::string cause;
    std::uint64_t retry_at_ms = 0;
    std::uint64_t newest_ms = 0;  // of the evidence: when that attempt began
  };
  // A few dozen at most. Null for a proxy of a configuration that is gone.
  [[nodiscard]] Entry* find(const ProxyUrl& proxy) noexcept;

  const Log& log_;
  std::vector<Entry> entries_;
};

}  // namespace towpath
