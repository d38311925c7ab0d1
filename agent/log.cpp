#include "agent/log.h"

#include <cstdio>

#include <fcntl.h>
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
  if (follows_askers_ && pid != 0) {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%d/fd/2", pid);
    theirs.reset(open(path, O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  }
  // A log that is full or gone must not stop anything: the result is of no use to anybody.
  [[maybe_unused]] const auto written = ::write(theirs ? theirs.get() : fd_, line.data(), line.size());
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

LogLine& LogLine::add(std::string_view key, std::int64_t value) {
  return log_ == nullptr ? *this : add(key, std::to_string(value));
}

}  // namespace towpath
