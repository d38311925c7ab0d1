// One event, one line, one write: `towpath: level=error event=connect_failed target=db.example:5432 ...`, or the same
// as one JSON object. Values with blanks or quotes are quoted. Nothing here knows a password: callers log
// ProxyUrl::display() only.
//
// Errors and warnings of one kind (event, target, cause) are written 20 times in ten seconds; how many more there were
// stands in a later line as `suppressed`. Not at level debug, which shows everything.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/log_limit.h"

namespace towpath {

enum class Level : std::uint8_t { error, warning, info, debug };
enum class LogFormat : std::uint8_t { text, json };

[[nodiscard]] std::optional<Level> parse_level(std::string_view text) noexcept;
[[nodiscard]] std::optional<LogFormat> parse_log_format(std::string_view text) noexcept;

class Log {
 public:
  // Borrows the descriptor. `dated`: text lines begin with the time, as JSON lines always do.
  Log(int fd, Level most, LogFormat format = LogFormat::text, bool dated = false)
      : fd_(fd), most_(most), format_(format), dated_(dated), limit_(std::make_unique<LogLimit>()) {}
  // For an agent that keeps nobody's standard error open: a line about a process goes to that process's.
  void follow_askers() noexcept { follows_askers_ = true; }
  [[nodiscard]] bool follows_askers() const noexcept { return follows_askers_; }
  [[nodiscard]] bool wants(Level level) const noexcept { return level <= most_; }
  [[nodiscard]] LogFormat format() const noexcept { return format_; }
  [[nodiscard]] bool dated() const noexcept { return dated_ || format_ == LogFormat::json; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  // `pid`: the process that the line is about, 0 for none.
  void write(std::string_view line, int pid = 0) const noexcept;

  // Called when something was left out: whoever has a clock then calls tell_suppressed() until it says no, once per
  // LogLimit::window_ms. Without anybody, the next line of the kind tells it.
  void on_suppressed(std::function<void()> call) const { *suppressed_ = std::move(call); }
  // `last`: whoever asks is about to end.
  bool tell_suppressed(bool last = false) const;
  [[nodiscard]] std::uint64_t suppressed() const noexcept { return limit_->total(); }

 private:
  friend class LogLine;
  [[nodiscard]] LogLimit::Pass admit(const LogLimit::Kind& kind) const;

  int fd_;
  Level most_;
  LogFormat format_;
  bool dated_;
  bool follows_askers_ = false;
  std::unique_ptr<LogLimit> limit_;
  std::unique_ptr<std::function<void()>> suppressed_ = std::make_unique<std::function<void()>>();
};

// Builds a line and writes it at the end of the statement.
class LogLine {
 public:
  LogLine(const Log& log, Level level, std::string_view event);
  ~LogLine();
  LogLine(const LogLine&) = delete;
  LogLine& operator=(const LogLine&) = delete;

  LogLine& add(std::string_view key, std::string_view value);
  LogLine& add(std::string_view key, std::int64_t value);
  LogLine& about(int pid);  // adds pid=
  // Where lines go to the process that they are about: a line that is about none of them goes to this one's.
  LogLine& shown_to(int pid);

 private:
  friend class Log;
  enum class Limited : std::uint8_t { yes, no };
  LogLine(const Log& log, Level level, std::string_view event, Limited limited);
  void put(std::string_view key, std::string_view value, bool number);

  const Log* log_;  // null: this level is not wanted
  bool limited_;
  LogLimit::Kind kind_;
  std::string text_;
  int pid_ = 0;
};

// RFC 3339, UTC, with milliseconds.
[[nodiscard]] std::string utc_text(std::int64_t unix_ms);

}  // namespace towpath
