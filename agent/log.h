// One event, one line, one write: `level=error event=connect_failed target=db.example:5432 ...`.
// Values with blanks or quotes are quoted. Nothing here knows a password: callers log ProxyUrl::display() only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace towpath {

enum class Level : std::uint8_t { error, warning, info, debug };

[[nodiscard]] std::optional<Level> parse_level(std::string_view text) noexcept;

class Log {
 public:
  // Borrows the descriptor.
  Log(int fd, Level most) noexcept : fd_(fd), most_(most) {}
  // For an agent that keeps nobody's standard error open: a line about a process goes to that process's.
  void follow_askers() noexcept { follows_askers_ = true; }
  [[nodiscard]] bool wants(Level level) const noexcept { return level <= most_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  // `pid`: the process that the line is about, 0 for none.
  void write(std::string_view line, int pid = 0) const noexcept;

 private:
  int fd_;
  Level most_;
  bool follows_askers_ = false;
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
  const Log* log_;  // null: this level is not wanted
  std::string text_;
  int pid_ = 0;
};

}  // namespace towpath
