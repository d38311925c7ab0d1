#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "agent/agent.h"
#include "launcher/processes.h"

namespace towpath {

namespace {

// Something harmless at a standard descriptor, also where there is no /dev.
void silence(int fd) {
  UniqueFd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing) nothing.reset(memfd_create("towpath-null", MFD_CLOEXEC));
  if (nothing.get() != fd) dup2(nothing.get(), fd);
  else (void)nothing.release();
}

// A descriptor that the agent inherited from whoever started P would keep a pipe of theirs open.
void close_all_but(std::vector<int> wanted) {
  std::sort(wanted.begin(), wanted.end());
  unsigned first = 3;
  for (const int fd : wanted) {
    if (fd < 3) continue;
    if (static_cast<unsigned>(fd) > first) syscall(SYS_close_range, first, static_cast<unsigned>(fd) - 1, 0);
    first = static_cast<unsigned>(fd) + 1;
  }
  syscall(SYS_close_range, first, ~0u, 0);
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

class AgentMain {
 public:
  AgentMain(AgentProcess setup, pid_t program) : setup_(std::move(setup)), program_(program) {}

  int run(UniqueFd go) {
    std::string why;
    uv_loop_init(&loop_);
    agent_ = Agent::start(&loop_, setup_.policy, *setup_.kept, *setup_.log, why);
    if (!agent_) {
      LogLine(*setup_.log, Level::error, "agent_failed").add("reason", why);
      report(ProgramReport::Kind::agent_failed, 0);
      return 1;
    }
    child_.open(this, [&](uv_signal_t* handle) { return uv_signal_init(&loop_, handle); });
    uv_signal_start(
        child_.get(), [](uv_signal_t* handle, int) { static_cast<AgentMain*>(handle->data)->reap(); }, SIGCHLD);
    lifeline_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(&loop_, handle, setup_.lifeline.get()); });
    uv_poll_start(lifeline_.get(), UV_READABLE | UV_DISCONNECT,
                  [](uv_poll_t* handle, int, int) { static_cast<AgentMain*>(handle->data)->linger(); });
    if (program_ != 0) report(ProgramReport::Kind::started, 0);
    if (go && write(go.get(), "g", 1) != 1) return 1;
    go.reset();
    reap();
    uv_run(&loop_, UV_RUN_DEFAULT);
    return 0;
  }

 private:
  void report(ProgramReport::Kind kind, int value) const {
    const ProgramReport message{kind, value, program_};
    [[maybe_unused]] const auto written = write(setup_.reports.get(), &message, sizeof message);
  }

  // Every child: the program, and the orphans of its tree.
  void reap() {
    for (;;) {
      siginfo_t info{};
      const int peeked = waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT);
      if (peeked != 0) {
        if (errno == ECHILD && lingering_) leave();
        return;
      }
      if (info.si_pid == 0) return;
      // Told before it is reaped: should this process die in between, P still finds the program's status.
      if (info.si_pid == program_) tell(info);
      waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WSTOPPED | WCONTINUED | WNOHANG);
    }
  }

  void tell(const siginfo_t& info) const {
    switch (info.si_code) {
      case CLD_EXITED: return report(ProgramReport::Kind::exited, info.si_status);
      case CLD_KILLED:
      case CLD_DUMPED: return report(ProgramReport::Kind::killed, info.si_status);
      case CLD_STOPPED: return report(ProgramReport::Kind::stopped, info.si_status);
      case CLD_CONTINUED: return report(ProgramReport::Kind::continued, 0);
      default: return;
    }
  }

  // P is gone: serve what is left of the tree, without keeping anybody's terminal or pipe open.
  void linger() {
    lifeline_.reset();
    lingering_ = true;
    silence(2);
    reap();
    // An agent that replaced another is nobody's parent: those who asked tell it when the tree has ended.
    poller_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(&loop_, handle); });
    uv_timer_start(
        poller_.get(), [](uv_timer_t* handle) { static_cast<AgentMain*>(handle->data)->leave_when_alone(); }, 0, 1000);
  }
  void leave_when_alone() {
    if (waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD && !agent_->any_asker_alive())
      leave();
  }
  [[noreturn]] static void leave() { _exit(0); }

  AgentProcess setup_;
  pid_t program_;
  bool lingering_ = false;
  uv_loop_t loop_{};
  std::unique_ptr<Agent> agent_;
  UvSignal child_;
  UvPoll lifeline_;
  UvTimer poller_;
};

}  // namespace

void run_agent_process(AgentProcess setup) {
  UniqueFd go_in, go_out;
  pid_t program = 0;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (setup.program != nullptr) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) _exit(1);
    go_in.reset(ends[0]);
    go_out.reset(ends[1]);
    program = fork();
    if (program == -1) _exit(1);
    if (program == 0) {
      go_out.reset();
      become_program(*setup.program, go_in.get());
    }
    go_in.reset();
  }
  setpgid(0, 0);
  signal(SIGTTOU, SIG_IGN);  // writing a log line to the terminal must not stop the agent
  signal(SIGTTIN, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // the tables are larger than some file size limits; the error is enough
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  prctl(PR_SET_NAME, "towpath-agent");
  std::vector<int> wanted{setup.kept->control.get(), setup.kept->names.get(), setup.kept->page.get(),
                          setup.reports.get(), setup.lifeline.get(), setup.log->fd()};
  if (go_out) wanted.push_back(go_out.get());
  close_all_but(std::move(wanted));
  silence(0);
  silence(1);
  raise_descriptor_limit();
  AgentMain main(std::move(setup), program);
  _exit(main.run(std::move(go_out)));
}

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
