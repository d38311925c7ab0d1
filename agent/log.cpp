#include "agent/log.h"

#include <climits>
#include <cstdio>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace towpath {

namespace {

constexpr std::string_view level_names[] = {"error", "warning", "info", "debug"};

bool plain(std::string_view value) noexcept {
  if (value.empty()) return false;
  for (const char c : value)
    if (c <= ' ' || c > '~' || c == '"' || c == '=' || c == '\\') return false;
  return true;
}

// The very description that the process writes to, where we may have it: a file opened anew would have a position of
// its own, and what the program writes next would overwrite our line.
UniqueFd standard_error_of(int pid) noexcept {
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  UniqueFd out(process ? static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), 2, 0)) : -1);
  if (out) return out;
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/fd/2", pid);
  out.reset(open(path, O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  return out;
}

// The program's own pipe may block: a full one must not stop the agent. A server started by inetd has its client there.
bool can_be_written(int fd) noexcept {
  int domain = AF_UNIX;
  socklen_t size = sizeof domain;
  getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  if (domain != AF_UNIX) return false;
  pollfd watched{fd, POLLOUT, 0};
  return poll(&watched, 1, 0) == 1 && (watched.revents & POLLOUT) != 0;
}

void append_quoted(std::string& to, std::string_view value) {
  constexpr char hex[] = "0123456789abcdef";
  to += '"';
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      to += '\\';
      to += c;
    } else if (byte < ' ' || byte > '~') {
      to += "\\x";
      to += hex[byte >> 4];
      to += hex[byte & 15];
    } else {
      to += c;
    }
  }
  to += '"';
}

}  // namespace

std::optional<Level> parse_level(std::string_view text) noexcept {
  for (std::size_t i = 0; i < std::size(level_names); ++i)
    if (text == level_names[i]) return static_cast<Level>(i);
  return std::nullopt;
}

void Log::write(std::string_view line, int pid) const noexcept {
  UniqueFd theirs;
  if (follows_askers_ && pid != 0) theirs = standard_error_of(pid);
  const int to = theirs ? theirs.get() : fd_;
  // A log that is full or gone must not stop anything: the line is lost, and the result is of no use to anybody.
  if (!can_be_written(to)) return;
  [[maybe_unused]] const auto written = ::write(to, line.data(), line.size() < PIPE_BUF ? line.size() : PIPE_BUF);
}

LogLine::LogLine(const Log& log, Level level, std::string_view event) : log_(log.wants(level) ? &log : nullptr) {
  if (log_ == nullptr) return;
  text_ = "towpath: level=";
  text_ += level_names[static_cast<std::size_t>(level)];
  add("event", event);
}

LogLine::~LogLine() {
  if (log_ == nullptr) return;
  text_ += '\n';
  log_->write(text_, pid_);
}

LogLine& LogLine::add(std::string_view key, std::string_view value) {
  if (log_ == nullptr) return *this;
  text_ += ' ';
  text_ += key;
  text_ += '=';
  if (plain(value)) text_ += value;
  else append_quoted(text_, value);
  return *this;
}

LogLine& LogLine::about(int pid) {
  pid_ = pid;
  return add("pid", pid);
}

LogLine& LogLine::shown_to(int pid) {
  pid_ = pid;
  return *this;
}

LogLine& LogLine::add(std::string_view key, std::int64_t value) {
  return log_ == nullptr ? *this : add(key, std::to_string(value));
}

}  // namespace towpath
