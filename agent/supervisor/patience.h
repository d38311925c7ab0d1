// How long a held call waits: what the program said with SO_RCVTIMEO or SO_SNDTIMEO.
#pragma once

#include <cstdint>

#include <sys/time.h>

#include "agent/uv.h"

namespace towpath {

// `over` gets `who` as its handle's data. Zero is for ever.
inline void start_patience(UvTimer& timer, uv_loop_t* loop, const timeval& patience, void* who, uv_timer_cb over) {
  if (patience.tv_sec == 0 && patience.tv_usec == 0) return;
  const std::uint64_t ms = static_cast<std::uint64_t>(patience.tv_sec) * 1000 + (patience.tv_usec + 999) / 1000;
  timer.open(who, [&](uv_timer_t* handle) { return uv_timer_init(loop, handle); });
  uv_timer_start(timer.get(), over, ms, 0);
}

}  // namespace towpath
