#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "launcher/processes.h"

namespace towpath {

namespace {

// More deaths than this in a minute: something is wrong that a new agent will not mend. Without one, tunnelled
// connects fail; they are never made directly.
constexpr int most_restarts = 20;

class Supervisor {
 public:
  Supervisor(AgentProcess blueprint, const Program& program)
      : policy_(std::move(blueprint.policy)), kept_(blueprint.kept), log_(blueprint.log), program_(program) {}

  int run() {
    if (!open()) return exit_towpath_failed;
    while (!ended_) {
      pollfd events[] = {{signals_.get(), POLLIN, 0}, {reports_in_.get(), POLLIN, 0}};
      if (poll(events, 2, -1) < 0 && errno != EINTR) break;
      // What A said before it died comes before the news of its death.
      if (events[1].revents != 0) read_reports();
      if (events[0].revents != 0) read_signals();
    }
    return leave();
  }

 private:
  bool open() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, fault);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    signals_.reset(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
    int ends[2];
    if (!signals_ || pipe2(ends, O_CLOEXEC) != 0) return false;
    lifeline_in_.reset(ends[0]);
    lifeline_out_.reset(ends[1]);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return start_agent(&program_);
  }

  bool start_agent(const Program* program) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    reports_in_.reset(ends[0]);
    UniqueFd reports_out(ends[1]);
    agent_ = fork();
    if (agent_ == -1) {
      std::fprintf(stderr, "towpath: cannot start the agent: %s\n", std::strerror(errno));
      return false;
    }
    if (agent_ == 0) {
      lifeline_out_.reset();
      AgentProcess setup{policy_, kept_, log_, std::move(reports_out), std::move(lifeline_in_), program};
      run_agent_process(std::move(setup));
    }
    return true;
  }

  void read_reports() {
    ProgramReport report;
    while (read(reports_in_.get(), &report, sizeof report) == static_cast<ssize_t>(sizeof report)) {
      switch (report.kind) {
        case ProgramReport::Kind::started:
          pid_ = report.pid;
          for (const int signal : early_) kill(pid_, signal);
          early_.clear();
          break;
        case ProgramReport::Kind::stopped: stop_with(report.value); break;
        case ProgramReport::Kind::continued: stopped_ = false; break;
        case ProgramReport::Kind::exited: end(report.value, 0); break;
        case ProgramReport::Kind::killed: end(128 + report.value, report.value); break;
        case ProgramReport::Kind::agent_failed: agent_failed_ = true; break;
      }
    }
  }

  void read_signals() {
    signalfd_siginfo info{};
    while (!ended_ && read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const auto signal = static_cast<int>(info.ssi_signo);
      switch (signal) {
        case SIGCHLD: reap(); break;
        // P stops when the program has stopped, not when the terminal asks for it.
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU: break;
        case SIGCONT:
          if (stopped_ && pid_ != 0) kill(pid_, SIGCONT);
          break;
        default: forward(signal, info.ssi_code == SI_KERNEL); break;
      }
    }
  }

  void forward(int signal, bool from_terminal) {
    if (pid_ == 0) {
      early_.push_back(signal);
      return;
    }
    // The terminal signals the whole foreground group, the program included.
    if (from_terminal && getpgid(pid_) == getpgrp()) return;
    kill(pid_, signal);
  }

  void reap() {
    for (;;) {
      int status = 0;
      const pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED);
      if (pid <= 0) return;
      const bool over = WIFEXITED(status) || WIFSIGNALED(status);
      if (pid == agent_ && over) {
        agent_ = 0;
        read_reports();
        if (!ended_) agent_died(status);
      } else if (pid == pid_) {
        // A died, and the program became our own child.
        if (WIFEXITED(status)) end(WEXITSTATUS(status), 0);
        else if (WIFSIGNALED(status)) end(128 + WTERMSIG(status), WTERMSIG(status));
        else if (WIFSTOPPED(status)) stop_with(WSTOPSIG(status));
        else stopped_ = false;
      }
    }
  }

  void agent_died(int status) {
    if (pid_ == 0 || agent_failed_) {
      if (!agent_failed_) std::fprintf(stderr, "towpath: the agent died before the program was started\n");
      return end(exit_towpath_failed, 0);
    }
    // The program may have ended together with the agent that would have told.
    int program_status = 0;
    if (kill(pid_, 0) != 0 && waitpid(pid_, &program_status, WNOHANG) <= 0) return end(exit_towpath_failed, 0);
    LogLine(*log_, Level::error, "agent_died")
        .add("pid", pid_)
        .add(WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - restarts_since_ > 60) {
      restarts_since_ = now.tv_sec;
      restarts_ = 0;
    }
    if (++restarts_ > most_restarts || !start_agent(nullptr))
      LogLine(*log_, Level::error, "agent_given_up").add("hint", "tunnelled connects fail from now on; report this");
  }

  void stop_with(int signal) {
    stopped_ = true;
    // Job control is the business of P's parent only when the program stopped as a job does.
    if (signal == SIGTSTP || signal == SIGSTOP || signal == SIGTTIN || signal == SIGTTOU) raise(SIGSTOP);
  }

  void end(int status, int signal) {
    ended_ = true;
    status_ = status;
    signal_ = signal;
  }

  int leave() {
    if (signal_ == 0 || getpid() == 1) return status_;
    // Die of the same signal, so that the caller sees what it would have seen; the core file is the program's to leave.
    const rlimit none{};
    setrlimit(RLIMIT_CORE, &none);
    ::signal(signal_, SIG_DFL);
    raise(signal_);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal_);
    sigprocmask(SIG_UNBLOCK, &only, nullptr);
    return status_;
  }

  std::shared_ptr<const Policy> policy_;
  Kept* kept_;
  const Log* log_;
  const Program& program_;
  UniqueFd signals_, reports_in_, lifeline_in_, lifeline_out_;
  std::vector<int> early_;  // signals from before the program's start
  pid_t agent_ = 0;
  pid_t pid_ = 0;
  bool agent_failed_ = false;
  bool stopped_ = false;
  bool ended_ = false;
  int status_ = exit_towpath_failed;
  int signal_ = 0;
  int restarts_ = 0;
  time_t restarts_since_ = 0;
};

}  // namespace

int supervise(AgentProcess blueprint, const Program& program) {
  return Supervisor(std::move(blueprint), program).run();
}

}  // namespace towpath
