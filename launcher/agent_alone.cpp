#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "agent/agent.h"
#include "launcher/descriptors.h"
#include "launcher/hang_watch.h"
#include "launcher/processes.h"
#include "launcher/reloader.h"

namespace towpath {

namespace {

constexpr int ready_number = 3;  // preload/standalone.cpp puts it there
constexpr std::uint64_t longest_idle_check_ms = 5000;
constexpr int most_attempts = 200;  // at the name, 10 ms apart

// TOWPATH_IDLE_SECONDS: how long an agent without askers stays.
std::uint64_t idle_end_ms() {
  const char* text = std::getenv("TOWPATH_IDLE_SECONDS");
  std::uint64_t seconds = 60;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), seconds);
  return std::min<std::uint64_t>(seconds, 86400) * 1000;
}

// Ends the loop when nobody who ever asked has been alive, and no relay has run, for that time.
class IdleWatch {
 public:
  IdleWatch(uv_loop_t* loop, Agent& agent)
      : loop_(loop), agent_(agent), end_ms_(idle_end_ms()), busy_at_(uv_now(loop)) {
    const std::uint64_t check_ms = std::clamp<std::uint64_t>(end_ms_ / 4, 50, longest_idle_check_ms);
    timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
    uv_timer_start(
        timer_.get(), [](uv_timer_t* handle) { static_cast<IdleWatch*>(handle->data)->look(); }, check_ms, check_ms);
  }

 private:
  void look() {
    if (agent_.any_asker_alive()) busy_at_ = uv_now(loop_);
    else if (uv_now(loop_) - busy_at_ >= end_ms_) uv_stop(loop_);
  }
  uv_loop_t* loop_;
  Agent& agent_;
  std::uint64_t end_ms_, busy_at_;
  UvTimer timer_;
};

// Does somebody listen there by now? Between bind and listen, and while an agent ends, the name is taken and nobody
// does.
bool somebody_listens(const std::string& name) {
  const UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return fd && connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0;
}

// The agent proper. `ready` gets a byte when it listens; none where another agent has died.
int run_standalone(std::shared_ptr<const Policy> policy, Sources sources, Kept& kept, const Log& log, UniqueFd ready) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  std::string why;
  const auto agent = raise_stack_limit(why) ? Agent::start(&loop, std::move(policy), kept, log, why) : nullptr;
  if (!agent) {
    LogLine(log, Level::error, "agent_failed").add("reason", why);
    return 1;
  }
  if (ready && write(ready.get(), "r", 1) != 1) return 1;
  ready.reset();
  for (const int fd : {0, 1, 2}) silence(fd);
  const IdleWatch idle(&loop, *agent);
  const Reloader reloader(&loop, *agent, std::move(sources), log);
  const int status = uv_run(&loop, UV_RUN_DEFAULT);
  // Who comes now is refused, and starts another one.
  shutdown(kept.control.get(), SHUT_RDWR);
  return status;
}

// More deaths than this in a minute: something is wrong that a new agent will not mend.
constexpr int most_restarts = 20;

// The wait status. One that hangs is ended.
int wait_for_end(pid_t agent, HangWatch& watch, const Log& log) {
  const UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, agent, 0)));
  pollfd ended{handle.get(), POLLIN, 0};
  while (handle && poll(&ended, 1, look_ms) <= 0) {
    if (!watch.hangs(agent)) continue;
    LogLine(log, Level::error, "agent_hangs").add("agent", agent).add("hint", "it is replaced; report this");
    kill(agent, SIGKILL);
    watch.begin_anew();
  }
  int status = 0;
  while (waitpid(agent, &status, 0) == -1 && errno == EINTR) {
  }
  return status;
}

// Keeps what outlives an agent, as P does for `towpath run`: programs under the net could not start another agent
// themselves, since nobody would answer what the net shows of it.
int guard(const std::shared_ptr<const Policy>& policy, const Sources& sources, Kept& kept, const Log& log,
          UniqueFd ready) {
  prctl(PR_SET_NAME, "towpath-guard");
  HangWatch watch(kept.page.get());
  timespec since{};
  for (int deaths = 0;;) {
    watch.begin_anew();
    const pid_t agent = fork();
    if (agent == -1) return 1;
    if (agent == 0) {
      prctl(PR_SET_NAME, "towpath-agent");
      _exit(run_standalone(policy, sources, kept, log, std::move(ready)));
    }
    ready.reset();
    for (const int fd : {0, 1, 2}) silence(fd);
    const int status = wait_for_end(agent, watch, log);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    LogLine(log, Level::error, "agent_died").add("signal", WTERMSIG(status));
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - since.tv_sec > 60) {
      since = now;
      deaths = 0;
    }
    if (++deaths > most_restarts) return 1;
  }
}

}  // namespace

int serve_standalone(std::shared_ptr<const Policy> policy, Sources sources, const std::string& name, const Log& log) {
  // The program's own dispositions and mask came with the exec.
  for (int each = 1; each < NSIG; ++each) signal(each, SIG_DFL);
  for (const int each : {SIGPIPE, SIGXFSZ, SIGHUP, SIGTTOU}) signal(each, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  UniqueFd ready(ready_number);
  close_all_but(log.fd() > ready_number ? std::vector<int>{ready_number, log.fd()} : std::vector<int>{ready_number});
  if (fcntl(ready.get(), F_SETFD, FD_CLOEXEC) != 0) return 1;
  setsid();
  if (chdir("/") != 0) return 1;
  umask(077);
  raise_descriptor_limit();
  std::string why;
  if (!raise_stack_limit(why)) {
    LogLine(log, Level::error, "agent_failed").add("reason", why);
    return 1;
  }
  std::optional<Kept> kept;
  for (int attempt = 0; !kept; ++attempt) {
    bool taken = false;
    // Listening begins in this process: askers look whose process it is.
    kept = Kept::create(*policy, why, name, &taken);
    if (kept) break;
    // Somebody was faster: as good as our own.
    if (taken && somebody_listens(name)) return write(ready.get(), "r", 1) == 1 ? 0 : 1;
    if (!taken || attempt == most_attempts) {
      LogLine(log, Level::error, "agent_failed").add("reason", why);
      return 1;
    }
    usleep(10'000);
  }
  // Agents with another user or configuration may have been given the same address: no reason not to connect.
  const char* metrics = std::getenv("TOWPATH_METRICS");
  if (metrics != nullptr && *metrics != '\0') {
    why = "none of PORT, ADDRESS:PORT, [ADDRESS]:PORT";
    const Endpoint at = parse_metrics_address(metrics);
    if (at.address) kept->metrics = listen_for_metrics(at, why);
    if (!kept->metrics)
      LogLine(log, Level::error, "metrics_unavailable").add("TOWPATH_METRICS", metrics).add("reason", why);
  }
  return guard(policy, sources, *kept, log, std::move(ready));
}

int serve_alone(std::shared_ptr<const Policy> policy, Sources sources, Kept& kept, const Log& log) {
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  uv_loop_t loop;
  uv_loop_init(&loop);
  std::string why;
  const auto agent = raise_stack_limit(why) ? Agent::start(&loop, std::move(policy), kept, log, why) : nullptr;
  if (!agent) {
    LogLine(log, Level::error, "agent_failed").add("reason", why);
    return 1;
  }
  const Reloader reloader(&loop, *agent, std::move(sources), log);
  return uv_run(&loop, UV_RUN_DEFAULT);
}

}  // namespace towpath
