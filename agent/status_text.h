// What an agent tells of itself, and the three ways to write it down. Holds no password, and no user of a proxy either.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/stats.h"
#include "proto/wire.h"

namespace towpath {

struct InboundCounters;

struct ProxyStatus {
  const ProxyCounters* counters;
  std::uint64_t attempts = 0;  // running now
};

// Of a proxy that is one of several.
struct ProxyHealth {
  std::string display;
  bool healthy = true;
  std::uint64_t failures = 0;  // in a row
  std::string last_cause;      // name_of(Err); empty: none yet
  std::uint64_t retry_ms = 0;  // until it is tried again; 0: at the next connect
};

// Of a configuration that can change while the agent runs.
struct ReloadStatus {
  std::uint64_t done = 0, failed = 0;
  std::string last_result;  // in words
};

struct Status {
  std::string version;
  std::string mode;  // preload, seccomp, agent, standalone
  std::string net;   // on, off, none (no tree yet), missing: and why
  int pid = 0;
  unsigned uid = 0;
  std::string program;  // what was started, empty when nothing was
  int program_pid = 0;
  std::string source;  // Policy::source
  std::int64_t started_unix = 0, now_unix = 0;

  std::uint64_t direct = 0, tunnel = 0, refused = 0;
  std::uint64_t tunnels_open = 0;
  std::uint64_t relays = 0, plain_relays = 0;  // that the agent carries now
  std::uint64_t dns_questions = 0;
  std::uint64_t log_suppressed = 0;
  std::vector<ProxyStatus> proxies;  // the first one: direct
  std::vector<ProxyHealth> health;   // empty: not known
  std::optional<ReloadStatus> reload;
  const InboundCounters* inbound = nullptr;  // null: accept is not managed
};

// Lines for people, one JSON object, or Prometheus' text exposition format 0.0.4. Ends with a line end.
[[nodiscard]] std::string render(const Status& status, wire::StatusFormat format);

}  // namespace towpath
