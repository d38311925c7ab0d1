#include "launcher/logging.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>

namespace towpath {

namespace {

struct Setting {
  std::string name, value;  // as the operator knows it; empty: not set
};

Setting setting(const std::string& option, const char* option_name, const char* variable) {
  if (!option.empty()) return {option_name, option};
  const char* value = std::getenv(variable);
  return {variable, value == nullptr ? "" : value};
}

}  // namespace

std::optional<OpenLog> open_log(const LogOptions& options, std::string& why) {
  const Setting file = setting(options.file, "--log-file", "TOWPATH_LOG_FILE");
  const Setting level = setting(options.level, "--log-level", "TOWPATH_LOG");
  const Setting format = setting(options.format, "--log-format", "TOWPATH_LOG_FORMAT");
  UniqueFd out;
  if (!file.value.empty()) {
    out.reset(open(file.value.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!out) {
      why = "cannot write " + file.name + " " + file.value + ": " + std::strerror(errno);
      return std::nullopt;
    }
  }
  const std::optional<Level> most = level.value.empty() ? Level::warning : parse_level(level.value);
  if (!most) {
    why = level.name + ": \"" + level.value + "\" is none of error, warning, info, debug";
    return std::nullopt;
  }
  const std::optional<LogFormat> form = format.value.empty() ? LogFormat::text : parse_log_format(format.value);
  if (!form) {
    why = format.name + ": \"" + format.value + "\" is none of text, json";
    return std::nullopt;
  }
  const int fd = out ? out.get() : 2;
  // A line on a terminal or in a service manager's journal comes at its time; one in a file must say it.
  const bool dated = static_cast<bool>(out);
  return OpenLog{std::move(out), Log(fd, *most, *form, dated)};
}

}  // namespace towpath
