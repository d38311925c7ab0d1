#include "agent/log.h"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "config/explain.h"

namespace towpath {

namespace {

constexpr std::string_view level_names[] = {"error", "warning", "info", "debug"};
constexpr std::size_t room_for_the_end = 64;  // `suppressed` and the line's end

std::uint64_t clock_ms(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

bool plain(std::string_view value) noexcept {
  if (value.empty()) return false;
  for (const char c : value)
    if (c <= ' ' || c > '~' || c == '"' || c == '=' || c == '\\') return false;
  return true;
}

bool is_inet(int fd) noexcept {
  int domain = AF_UNIX;
  socklen_t size = sizeof domain;
  getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  return domain == AF_INET || domain == AF_INET6;
}

// Was descriptor 2 of that process opened for append?
bool appends(int pid) noexcept {
  char path[32], text[256];
  std::snprintf(path, sizeof path, "/proc/%d/fdinfo/2", pid);
  const UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t size = fd ? read(fd.get(), text, sizeof text - 1) : -1;
  if (size <= 0) return false;
  text[size] = '\0';
  const char* const flags = std::strstr(text, "flags:");
  return flags != nullptr && (std::strtoul(flags + 6, nullptr, 8) & O_APPEND) != 0;
}

// Whether a program's descriptor 2 is something to tell people on, as preload/complain has it: it may be a file that
// holds something else, or a client's connection (a server that inetd started).
bool takes_lines(int fd, int pid) noexcept {
  struct stat is {};
  if (fstat(fd, &is) != 0) return false;
  if (S_ISREG(is.st_mode)) return appends(pid);
  return S_ISCHR(is.st_mode) || S_ISFIFO(is.st_mode) || (S_ISSOCK(is.st_mode) && !is_inet(fd));
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

// The program's own pipe may block: a full one must not stop the agent.
bool can_be_written(int fd) noexcept {
  if (is_inet(fd)) return false;
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

std::optional<LogFormat> parse_log_format(std::string_view text) noexcept {
  if (text == "text") return LogFormat::text;
  if (text == "json") return LogFormat::json;
  return std::nullopt;
}

void Log::write(std::string_view line, int pid) const noexcept {
  UniqueFd theirs;
  if (follows_askers_ && pid != 0) {
    theirs = standard_error_of(pid);
    if (theirs && !takes_lines(theirs.get(), pid)) return;
  }
  const int to = theirs ? theirs.get() : fd_;
  // A log that is full or gone must not stop anything: the line is lost, and the result is of no use to anybody.
  if (!can_be_written(to)) return;
  [[maybe_unused]] const auto written = ::write(to, line.data(), line.size() < PIPE_BUF ? line.size() : PIPE_BUF);
}

std::string utc_text(std::int64_t unix_ms) {
  const time_t seconds = unix_ms / 1000;
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + size, sizeof text - size, ".%03dZ", static_cast<int>(unix_ms % 1000));
  return text;
}

LogLimit::Pass Log::admit(const LogLimit::Kind& kind) const {
  const LogLimit::Pass pass = limit_->admit(kind, clock_ms(CLOCK_MONOTONIC_COARSE));
  if (pass.first_suppressed && *suppressed_) (*suppressed_)();
  return pass;
}

bool Log::tell_suppressed(bool last) const {
  for (const LogLimit::Told& each : limit_->overdue(clock_ms(CLOCK_MONOTONIC_COARSE), last)) {
    LogLine line(*this, static_cast<Level>(each.kind.level), each.kind.event, LogLine::Limited::no);
    if (each.kind.pid != 0) line.about(each.kind.pid);
    if (!each.kind.target.empty()) line.add("target", each.kind.target);
    if (!each.kind.cause.empty()) line.add("cause", each.kind.cause);
    line.add("suppressed", static_cast<std::int64_t>(each.suppressed));
  }
  return limit_->pending();
}

LogLine::LogLine(const Log& log, Level level, std::string_view event) : LogLine(log, level, event, Limited::yes) {}

LogLine::LogLine(const Log& log, Level level, std::string_view event, Limited limited)
    : log_(log.wants(level) ? &log : nullptr),
      limited_(limited == Limited::yes && level <= Level::warning && !log.wants(Level::debug)) {
  if (log_ == nullptr) return;
  kind_.level = static_cast<int>(level);
  if (limited_) kind_.event = event;
  text_ = log.format() == LogFormat::json ? "{" : "towpath:";
  if (log.dated()) put("ts", utc_text(static_cast<std::int64_t>(clock_ms(CLOCK_REALTIME))), false);
  put("level", level_names[static_cast<std::size_t>(level)], false);
  put("event", event, false);
}

LogLine::~LogLine() {
  if (log_ == nullptr) return;
  if (limited_) {
    if (log_->follows_askers()) kind_.pid = pid_;
    const LogLimit::Pass pass = log_->admit(kind_);
    if (!pass.write) return;
    if (pass.suppressed != 0) add("suppressed", static_cast<std::int64_t>(pass.suppressed));
  }
  text_ += log_->format() == LogFormat::json ? "}\n" : "\n";
  log_->write(text_, pid_);
}

void LogLine::put(std::string_view key, std::string_view value, bool number) {
  const std::size_t before = text_.size();
  if (log_->format() == LogFormat::json) {
    if (text_.size() > 1) text_ += ',';
    text_ += json_text(key);
    text_ += ':';
    if (number) text_ += value;
    else text_ += json_text(value);
  } else {
    text_ += ' ';
    text_ += key;
    text_ += '=';
    if (plain(value)) text_ += value;
    else append_quoted(text_, value);
  }
  // One write must do, or lines of several processes would mix: what does not fit is left out, not cut.
  if (text_.size() > PIPE_BUF - room_for_the_end) text_.resize(before);
}

LogLine& LogLine::add(std::string_view key, std::string_view value) {
  if (log_ == nullptr) return *this;
  if (limited_ && key == "target") kind_.target = value;
  if (limited_ && key == "cause") kind_.cause = value;
  put(key, value, false);
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
  if (log_ != nullptr) put(key, std::to_string(value), true);
  return *this;
}

}  // namespace towpath
