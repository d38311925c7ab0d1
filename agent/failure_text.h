// Why a connect failed, in words, and what the operator can do about it. For the log; never holds credentials.
#pragma once

#include <string>

#include "agent/attempt.h"

namespace towpath {

struct FailureText {
  std::string reason;
  std::string hint;  // may be empty
};

struct Failure {
  Error error;
  const ProxyUrl* proxy = nullptr;  // null: direct
  std::string target;               // host:port
  std::uint16_t port = 0;
  std::uint16_t status = 0;  // HTTP status or SOCKS5 REP
  std::string detail;        // what the proxy said
  bool sent_login = false;
  std::string tried;  // which proxies could not be reached before this one, and why
};

[[nodiscard]] FailureText explain_failure(const Failure& failure);

}  // namespace towpath
