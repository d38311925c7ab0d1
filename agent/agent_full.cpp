// An agent without a free descriptor: what it cannot take waits or is refused, and it says so.
#include "agent/agent.h"
#include "agent/full.h"

namespace towpath {

namespace {

constexpr std::uint64_t breath_ms = 20;

}  // namespace

void Agent::listen() {
  uv_poll_start(listener_.get(), UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<Agent*>(handle->data)->accept(); });
}

// The asks wait in the listener's queue, which would wake us without end.
void Agent::catch_breath() {
  on_full();
  uv_poll_stop(listener_.get());
  if (!breather_.get()) breather_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
  uv_timer_start(
      breather_.get(), [](uv_timer_t* handle) { static_cast<Agent*>(handle->data)->listen(); }, breath_ms, 0);
}

void say_full(const Log& log) {
  LogLine(log, Level::error, "agent_full")
      .add("reason", "the agent has no free descriptor: connects wait or fail with ENFILE")
      .add("hint", "raise the hard limit of open files (ulimit -Hn, LimitNOFILE=, the container's nofile)");
}

void Agent::on_full() { say_full(log_); }

}  // namespace towpath
