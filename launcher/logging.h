// Where the log goes and what stands in it: options of the command line, else the environment.
#pragma once

#include <optional>
#include <string>

#include "agent/log.h"
#include "base/unique_fd.h"

namespace towpath {

// Empty: the variable TOWPATH_LOG, TOWPATH_LOG_FILE or TOWPATH_LOG_FORMAT decides, else warning, standard error, text.
struct LogOptions {
  std::string level, file, format;
};

struct OpenLog {
  UniqueFd file;  // none: standard error
  Log log;
};

// None: something cannot be used, and `why` says what.
[[nodiscard]] std::optional<OpenLog> open_log(const LogOptions& options, std::string& why);

}  // namespace towpath
