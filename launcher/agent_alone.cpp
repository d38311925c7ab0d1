#include <csignal>
#include <string>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "agent/agent.h"
#include "launcher/descriptors.h"
#include "launcher/processes.h"

namespace towpath {

namespace {

constexpr int ready_number = 3;  // preload/standalone.cpp puts it there
constexpr std::uint64_t idle_check_ms = 5000, idle_end_ms = 60000;

// Ends the loop when nobody who ever asked has been alive for a minute.
class IdleWatch {
 public:
  IdleWatch(uv_loop_t* loop, Agent& agent) : loop_(loop), agent_(agent), busy_at_(uv_now(loop)) {
    timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
    uv_timer_start(
        timer_.get(), [](uv_timer_t* handle) { static_cast<IdleWatch*>(handle->data)->look(); }, idle_check_ms,
        idle_check_ms);
  }

 private:
  void look() {
    if (agent_.any_asker_alive()) busy_at_ = uv_now(loop_);
    else if (uv_now(loop_) - busy_at_ >= idle_end_ms) uv_stop(loop_);
  }
  uv_loop_t* loop_;
  Agent& agent_;
  std::uint64_t busy_at_;
  UvTimer timer_;
};

// In the new session: the agent proper. `ready` gets a byte when it listens.
int run_standalone(std::shared_ptr<const Policy> policy, Kept& kept, const Log& log, UniqueFd ready) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  std::string why;
  const auto agent = Agent::start(&loop, std::move(policy), kept, log, why);
  if (!agent) {
    LogLine(log, Level::error, "agent_failed").add("reason", why);
    return 1;
  }
  if (write(ready.get(), "r", 1) != 1) return 1;
  ready.reset();
  for (const int fd : {0, 1, 2}) silence(fd);
  const IdleWatch idle(&loop, *agent);
  return uv_run(&loop, UV_RUN_DEFAULT);
}

}  // namespace

int serve_standalone(std::shared_ptr<const Policy> policy, const std::string& name, const Log& log) {
  // The program's own dispositions and mask came with the exec.
  for (int each = 1; each < NSIG; ++each) signal(each, SIG_DFL);
  for (const int each : {SIGPIPE, SIGXFSZ, SIGHUP, SIGTTOU}) signal(each, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  UniqueFd ready(ready_number);
  if (fcntl(ready.get(), F_SETFD, FD_CLOEXEC) != 0) return 1;
  setsid();
  if (chdir("/") != 0) return 1;
  umask(077);
  prctl(PR_SET_NAME, "towpath-agent");
  raise_descriptor_limit();
  std::string why;
  bool taken = false;
  // Listening begins in this process: askers look whose process it is.
  auto kept = Kept::create(*policy, why, name, &taken);
  if (!kept) {
    // Somebody was faster: as good as our own.
    if (taken) return write(ready.get(), "r", 1) == 1 ? 0 : 1;
    LogLine(log, Level::error, "agent_failed").add("reason", why);
    return 1;
  }
  return run_standalone(std::move(policy), *kept, log, std::move(ready));
}

int serve_alone(std::shared_ptr<const Policy> policy, Kept& kept, const Log& log) {
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  uv_loop_t loop;
  uv_loop_init(&loop);
  std::string why;
  const auto agent = Agent::start(&loop, std::move(policy), kept, log, why);
  if (!agent) {
    LogLine(log, Level::error, "agent_failed").add("reason", why);
    return 1;
  }
  return uv_run(&loop, UV_RUN_DEFAULT);
}

}  // namespace towpath
