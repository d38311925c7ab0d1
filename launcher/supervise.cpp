#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config/difference.h"
#include "config/reconsider.h"
#include "launcher/commands.h"
#include "launcher/descriptors.h"
#include "launcher/hang_watch.h"
#include "launcher/processes.h"

namespace towpath {

namespace {

// More deaths than this in a minute: something is wrong that a new agent will not mend. Without one, tunnelled
// connects fail; they are never made directly.
constexpr int most_restarts = 20;

// Did the kernel send it to P's whole group, which the program usually belongs to? So it does with the terminal's keys.
// Not so with alarm(2), which survives exec, nor with a hangup that only the session's leader is told of.
bool meant_for_group(const signalfd_siginfo& info) {
  if (info.ssi_code != SI_KERNEL) return false;
  switch (info.ssi_signo) {
    case SIGINT:
    case SIGQUIT:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
    case SIGWINCH: return true;
    case SIGHUP:
    case SIGCONT: return getsid(0) != getpid();
    default: return false;
  }
}

class Supervisor {
 public:
  Supervisor(AgentProcess blueprint, const Program& program)
      : policy_(std::move(blueprint.policy)),
        sources_(std::move(blueprint.sources)),
        kept_(blueprint.kept),
        log_(blueprint.log),
        program_(program),
        watch_(kept_->page.get()) {}

  int run() {
    if (!open()) {
      std::fprintf(stderr, "towpath: cannot start the agent: %s\n", std::strerror(errno));
      return exit_towpath_failed;
    }
    while (!ended_) {
      pollfd events[] = {{signals_.get(), POLLIN, 0}, {reports_in_.get(), POLLIN, 0}};
      if (poll(events, 2, agent_ != 0 ? look_ms : -1) < 0 && errno != EINTR) break;
      // What A said before it died comes before the news of its death.
      if (events[1].revents != 0) read_reports();
      if (events[0].revents != 0) read_signals();
      if (!ended_ && watch_.hangs(agent_)) end_hanging();
    }
    return leave();
  }

 private:
  bool open() {
    // All of them: a fault of our own ends this process although its signal is blocked.
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    signal(SIGCHLD, SIG_DFL);  // where it is ignored, the kernel reaps
    signals_.reset(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
    int lifeline[2], go[2];
    if (!signals_ || pipe2(lifeline, O_CLOEXEC) != 0) return false;
    lifeline_in_.reset(lifeline[0]);
    lifeline_out_.reset(lifeline[1]);
    if (pipe2(go, O_CLOEXEC) != 0) return false;
    UniqueFd go_in(go[0]);
    go_.reset(go[1]);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (!start_agent(&program_, std::move(go_in))) return false;
    // The program has what the caller gave it. Copies here would keep pipes open that it closes; later agents need a
    // standard error.
    std::vector<int> wanted = kept_->descriptors();
    for (const int fd :
         {signals_.get(), reports_in_.get(), lifeline_in_.get(), lifeline_out_.get(), go_.get(), log_->fd()})
      wanted.push_back(fd);
    close_all_but(std::move(wanted));
    silence(0);
    silence(1);
    return true;
  }

  bool start_agent(const Program* program, UniqueFd go) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    reports_in_.reset(ends[0]);
    UniqueFd reports_out(ends[1]);
    const pid_t self = getpid();
    watch_.begin_anew();
    agent_ = fork();
    if (agent_ == -1) return false;
    if (agent_ == 0) {
      lifeline_out_.reset();
      go_.reset();
      AgentProcess setup{policy_,       sources_, kept_, log_, self, std::move(reports_out), std::move(lifeline_in_),
                         std::move(go), program,  pid_};
      run_agent_process(std::move(setup));
    }
    return true;
  }

  void read_reports() {
    ProgramReport report;
    ssize_t got;
    while ((got = read(reports_in_.get(), &report, sizeof report)) == static_cast<ssize_t>(sizeof report)) {
      switch (report.kind) {
        case ProgramReport::Kind::started: let_go(report.pid); break;
        case ProgramReport::Kind::exited: end(report.value, 0); break;
        case ProgramReport::Kind::killed: end(128 + report.value, report.value); break;
        case ProgramReport::Kind::reloaded: follow_agent(report.policy); break;
        case ProgramReport::Kind::agent_failed: failed_at_start_ = pid_ == 0; break;
      }
    }
    if (got == 0) reports_in_.reset();  // poll would report its end for ever
  }

  // The program waits until now. What came before is sent on; what comes from here on finds it in its place.
  void let_go(pid_t pid) {
    read_signals();
    if (ended_) return;
    pid_ = pid;
    for (const signalfd_siginfo& each : early_) send(each);
    early_.clear();
    [[maybe_unused]] const auto written = write(go_.get(), "g", 1);
    go_.reset();
  }

  // For an agent that may have to be started when the files are broken: what A accepted, and nothing else. The files
  // may have changed since, and only A judges whether that is whole and can be used: it will, and say so.
  void follow_agent(std::uint64_t accepted) {
    const Reconsidered fresh = reconsider(*policy_, static_cast<bool>(kept_->clients), sources_);
    if (fresh.policy && fingerprint(*fresh.policy) == accepted) policy_ = fresh.policy;
  }

  void read_signals() {
    signalfd_siginfo info{};
    while (!ended_ && read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo == SIGCHLD) reap();
      else forward(info);
    }
  }

  void forward(const signalfd_siginfo& info) {
    if (pid_ == 0) return early_.push_back(info);
    if (meant_for_group(info) && getpgid(pid_) == getpgrp()) return;
    // A continues P because the program goes on already.
    if (info.ssi_signo == SIGCONT && static_cast<pid_t>(info.ssi_pid) == agent_) return;
    send(info);
  }

  void send(const signalfd_siginfo& info) const {
    const auto number = static_cast<int>(info.ssi_signo);
    sigval value{};
    value.sival_ptr = reinterpret_cast<void*>(info.ssi_ptr);
    if (info.ssi_code == SI_QUEUE) sigqueue(pid_, number, value);
    else kill(pid_, number);
  }

  void reap() {
    for (;;) {
      int status = 0;
      const pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED);
      if (pid <= 0) return;
      if (pid == agent_ && !WIFSTOPPED(status)) {
        agent_ = 0;
        read_reports();
        if (!ended_) agent_died(status);
      } else if (pid == pid_) {
        // A died, and the program became our own child.
        if (WIFEXITED(status)) end(WEXITSTATUS(status), 0);
        else if (WIFSIGNALED(status)) end(128 + WTERMSIG(status), WTERMSIG(status));
        else raise(SIGSTOP);
      }
    }
  }

  // What it has begun is lost, as when it dies by itself; whoever waits for its word hears the end of it.
  void end_hanging() {
    LogLine(*log_, Level::error, "agent_hangs")
        .add("pid", pid_)
        .add("agent", agent_)
        .add("hint", "it is replaced; report this");
    kill(agent_, SIGKILL);
    watch_.begin_anew();
  }

  void agent_died(int status) {
    if (pid_ == 0) {
      if (!failed_at_start_) std::fprintf(stderr, "towpath: the agent died before the program was started\n");
      return end(exit_towpath_failed, 0);
    }
    // It tells of the program's end before it reaps. A program that is neither there nor ours has no status any more.
    if (kill(pid_, 0) != 0 && errno == ESRCH) return end(exit_towpath_failed, 0);
    LogLine(*log_, Level::error, "agent_died")
        .add("pid", pid_)
        .add(WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - restarts_since_ > 60) {
      restarts_since_ = now.tv_sec;
      restarts_ = 0;
    }
    if (++restarts_ <= most_restarts && start_agent(nullptr, {})) return;
    LogLine(*log_, Level::error, "agent_given_up").add("hint", "tunnelled connects fail from now on; report this");
    // Asks fail instead of waiting for somebody who never comes; the name stays ours, so that nobody else answers to
    // it.
    shutdown(kept_->control.get(), SHUT_RDWR);
    // With the last copy of their listener gone, the calls that the kernel stops fail, too.
    kept_->listeners_in.reset();
    kept_->listeners_out.reset();
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
    prctl(PR_SET_DUMPABLE, 0);  // where cores go to a pipe, the limit does not count
    ::signal(signal_, SIG_DFL);
    raise(signal_);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal_);
    sigprocmask(SIG_UNBLOCK, &only, nullptr);
    return status_;
  }

  std::shared_ptr<const Policy> policy_;
  Sources sources_;
  Kept* kept_;
  Log* log_;
  const Program& program_;
  UniqueFd signals_, reports_in_, lifeline_in_, lifeline_out_;
  UniqueFd go_;                          // lets C go
  std::vector<signalfd_siginfo> early_;  // from before the program's start
  pid_t agent_ = 0;
  HangWatch watch_;
  pid_t pid_ = 0;
  bool failed_at_start_ = false;
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
