#include <cerrno>
#include <cstdlib>
#include <optional>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "agent/agent.h"
#include "config/difference.h"
#include "launcher/descriptors.h"
#include "launcher/processes.h"
#include "launcher/reloader.h"

namespace towpath {

namespace {

class AgentMain {
 public:
  AgentMain(AgentProcess setup, pid_t program) : setup_(std::move(setup)), program_(program) {}

  int run() {
    std::string why;
    uv_loop_init(&loop_);
    if (raise_stack_limit(why)) agent_ = Agent::start(&loop_, setup_.policy, *setup_.kept, *setup_.log, why);
    if (!agent_) {
      LogLine(*setup_.log, Level::error, "agent_failed").add("reason", why);
      report(ProgramReport::Kind::agent_failed, 0);
      return 1;
    }
    agent_->set_program(program_ != 0 ? program_ : setup_.running);
    child_.open(this, [&](uv_signal_t* handle) { return uv_signal_init(&loop_, handle); });
    uv_signal_start(
        child_.get(), [](uv_signal_t* handle, int) { static_cast<AgentMain*>(handle->data)->reap(); }, SIGCHLD);
    // A burst of SIGHUPs may leave no room for the news of a child in libuv's pipe.
    hangup_.open(this, [&](uv_signal_t* handle) { return uv_signal_init(&loop_, handle); });
    uv_signal_start(
        hangup_.get(), [](uv_signal_t* handle, int) { static_cast<AgentMain*>(handle->data)->reap(); }, SIGHUP);
    lifeline_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(&loop_, handle, setup_.lifeline.get()); });
    uv_poll_start(lifeline_.get(), UV_READABLE | UV_DISCONNECT,
                  [](uv_poll_t* handle, int, int) { static_cast<AgentMain*>(handle->data)->linger(); });
    if (program_ != 0) report(ProgramReport::Kind::started, 0);
    reloader_.emplace(&loop_, *agent_, std::move(setup_.sources), *setup_.log,
                      [this] { report(ProgramReport::Kind::reloaded, 0); });
    reap();
    uv_run(&loop_, UV_RUN_DEFAULT);
    return 0;
  }

 private:
  void report(ProgramReport::Kind kind, int value) const {
    const ProgramReport message{kind, value, program_,
                                kind == ProgramReport::Kind::reloaded ? fingerprint(agent_->policy()) : 0};
    [[maybe_unused]] const auto written = write(setup_.reports.get(), &message, sizeof message);
  }

  // Every child: the program, and the orphans of its tree.
  void reap() {
    constexpr int all = WEXITED | WSTOPPED | WCONTINUED | WNOHANG;
    for (;;) {
      siginfo_t seen{};
      if (waitid(P_ALL, 0, &seen, all | WNOWAIT) != 0 || seen.si_pid == 0) break;
      const bool program = seen.si_pid == program_;
      // Told before it is reaped: should this process die in between, P still finds the program's status.
      if (program) tell(seen);
      siginfo_t taken{};
      waitid(P_PID, static_cast<id_t>(seen.si_pid), &taken, all);
      // It may have moved on since: stopped then, and continued or killed now.
      if (program && taken.si_pid != 0 && taken.si_code != seen.si_code) tell(taken);
    }
    if (!lingering_ || !alone()) return;
    setup_.log->tell_suppressed(true);
    _exit(0);
  }

  void tell(const siginfo_t& info) {
    switch (info.si_code) {
      case CLD_EXITED: report(ProgramReport::Kind::exited, info.si_status); break;
      case CLD_KILLED:
      case CLD_DUMPED: report(ProgramReport::Kind::killed, info.si_status); break;
      case CLD_STOPPED: return stop_supervisor();
      default: break;
    }
    continue_supervisor();
  }

  // P stops when the program does, so that P's parent sees it, and only this process can wake it when the program goes
  // on or ends by itself. Both are sent from here, so that they arrive in the order in which things happened.
  void stop_supervisor() {
    if (supervisor_stopped_) continue_supervisor();  // it went on and stopped again before we looked
    if (getppid() == setup_.supervisor && kill(setup_.supervisor, SIGSTOP) == 0) supervisor_stopped_ = true;
  }
  void continue_supervisor() {
    if (supervisor_stopped_ && getppid() == setup_.supervisor) kill(setup_.supervisor, SIGCONT);
    supervisor_stopped_ = false;
  }

  // P is gone: serve what is left of the tree, without keeping anybody's terminal or pipe open.
  void linger() {
    lifeline_.reset();
    lingering_ = true;
    silence(2);
    if (setup_.log->fd() == 2) setup_.log->follow_askers();
    reap();
    poller_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(&loop_, handle); });
    uv_timer_start(
        poller_.get(), [](uv_timer_t* handle) { static_cast<AgentMain*>(handle->data)->reap(); }, 1000, 1000);
  }

  // Has the tree ended? All of it descends from the first agent. An agent that replaced another is nobody's parent: it
  // knows of the program and of those who asked.
  bool alone() {
    if (waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD) return false;
    if (program_ != 0) return true;
    return (kill(setup_.running, 0) != 0 && errno == ESRCH) && !agent_->any_asker_alive();
  }

  AgentProcess setup_;
  pid_t program_;  // 0: not our child
  bool supervisor_stopped_ = false;
  bool lingering_ = false;
  uv_loop_t loop_{};
  std::unique_ptr<Agent> agent_;
  UvSignal child_, hangup_;
  std::optional<Reloader> reloader_;
  UvPoll lifeline_;
  UvTimer poller_;
};

// What P was sent, and what a terminal sends to the group that this process is about to leave, is not for the agent: it
// ends when its tree has ended, also where a service manager signals every process at once. (SIGHUP is for the
// reloader, once that is there.)
void ignore_signals() {
  for (const int each : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGPIPE}) signal(each, SIG_IGN);
  signal(SIGTTOU, SIG_IGN);  // writing a log line to the terminal must not stop the agent
  signal(SIGTTIN, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // the tables are larger than some file size limits; the error is enough
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

void run_agent_process(AgentProcess setup) {
  pid_t program = 0;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (setup.program != nullptr) {
    program = fork();
    if (program == -1) _exit(1);
    if (program == 0) become_program(*setup.program, setup.go.get());
    setup.go.reset();
  }
  // Out of the terminal's reach. A group of our own would do for that, but in P's session it would keep the program's
  // group from being orphaned: Ctrl-Z would stop a program that nobody can continue, and the death of an agent would
  // send SIGHUP to a stopped job.
  setsid();
  ignore_signals();
  prctl(PR_SET_NAME, "towpath-agent");
  std::vector<int> wanted = setup.kept->descriptors();
  for (const int fd : {setup.reports.get(), setup.lifeline.get(), setup.log->fd()}) wanted.push_back(fd);
  close_all_but(std::move(wanted));
  silence(0);
  silence(1);
  raise_descriptor_limit();
  AgentMain main(std::move(setup), program);
  _exit(main.run());
}

}  // namespace towpath
