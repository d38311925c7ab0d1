#include "proto/http_refusal.h"

#include <cstring>

#include "proto/ascii.h"

namespace towpath {

namespace {

class Cursor {
 public:
  explicit Cursor(std::string_view text) noexcept : at_(text.data()), end_(text.data() + text.size()) {}

  [[nodiscard]] bool more() const noexcept { return at_ != end_; }
  [[nodiscard]] bool at(char c) const noexcept { return more() && *at_ == c; }
  char next() noexcept { return *at_++; }
  void skip_any_of(std::string_view set) noexcept {
    while (more() && is_one_of(*at_, set)) ++at_;
  }
  std::string_view token() noexcept {
    const char* const start = at_;
    while (more() && is_token_char(*at_)) ++at_;
    return {start, static_cast<std::size_t>(at_ - start)};
  }
  // Behind the opening quote; one that is never closed takes the rest.
  void skip_quoted() noexcept {
    while (more()) {
      const char c = next();
      if (c == '"') return;
      if (c == '\\' && more()) ++at_;
    }
  }

 private:
  const char* at_;
  const char* end_;
};

bool begins_with(std::string_view text, std::string_view head) noexcept {
  return text.size() >= head.size() && std::memcmp(text.data(), head.data(), head.size()) == 0;
}

bool ends_with(std::string_view text, std::string_view tail) noexcept {
  return text.size() >= tail.size() &&
         std::memcmp(text.data() + (text.size() - tail.size()), tail.data(), tail.size()) == 0;
}

bool offers(std::string_view schemes, std::string_view scheme) noexcept {
  Cursor in(schemes);
  while (in.more()) {
    if (in.token() == scheme) return true;
    in.skip_any_of(" ");
  }
  return false;
}

}  // namespace

Err cause_of_status(std::uint16_t status, bool login_sent) noexcept {
  switch (status) {
    case 401:
    case 403:
    case 405:
    case 451:
    case 501: return Err::denied;
    case 407: return login_sent ? Err::bad_credentials : Err::wants_credentials;
    case 504: return Err::target_timeout;
    default: return Err::refused;  // also for a number that no RFC knows
  }
}

Err cause_of_squid_error(std::string_view value) noexcept {
  Cursor in(value);
  in.skip_any_of(" \t");
  const std::string_view name = in.token();
  in.skip_any_of(" \t");
  const std::string_view number = in.token();
  // Linux numbers by their digits: the proxy's errno, not one of this machine's.
  if (number == "101") return Err::network_unreachable;
  if (number == "110") return Err::target_timeout;
  if (number == "111") return Err::target_refused;
  if (number == "113") return Err::target_unreachable;
  return name == "ERR_DNS_FAIL" ? Err::target_unreachable : Err::ok;
}

std::string_view proxy_status_error(std::string_view value) noexcept {
  Cursor in(value);
  while (in.more()) {
    const char c = in.next();
    if (c == '"') in.skip_quoted();
    if (c != ';') continue;
    in.skip_any_of(" \t");
    if (in.token() != "error" || !in.at('=')) continue;
    in.next();
    if (const std::string_view token = in.token(); !token.empty()) return token;
  }
  return {};
}

Err cause_of_proxy_status(std::string_view token) noexcept {
  if (token == "connection_refused") return Err::target_refused;
  if (ends_with(token, "_timeout")) return Err::target_timeout;  // dns_timeout too
  if (begins_with(token, "dns_") || token == "destination_not_found" || token == "destination_ip_unroutable" ||
      token == "destination_unavailable")
    return Err::target_unreachable;
  if (token == "destination_ip_prohibited" || token == "http_request_denied") return Err::denied;
  return Err::ok;
}

void add_offered_schemes(std::string_view value, OfferedSchemes& schemes) noexcept {
  Cursor in(value);
  while (in.more()) {
    in.skip_any_of(" \t,");
    const std::string_view token = in.token();
    in.skip_any_of(" \t");
    // Challenges and their parameters share one comma-separated list: "name =" is a parameter.
    if (!token.empty() && !in.at('=') && token.size() < schemes.room() && !offers(schemes.view(), token)) {
      if (!schemes.empty()) schemes.add(' ');
      schemes.add(token);
    }
    while (in.more() && !in.at(','))
      if (in.next() == '"') in.skip_quoted();
  }
}

}  // namespace towpath
