#include "config/draft.h"

#include <algorithm>

#include "config/text.h"

namespace towpath {

void Draft::error(std::string where, std::string what) {
  problems.push_back({Problem::Severity::error, std::move(where), std::move(what)});
}

void Draft::warning(std::string where, std::string what) {
  problems.push_back({Problem::Severity::warning, std::move(where), std::move(what)});
}

void Draft::add_source(std::string_view name) {
  if (std::find(sources.begin(), sources.end(), name) == sources.end()) sources.emplace_back(name);
}

std::string Draft::resolved(std::string_view path) const {
  if (directory.empty() || path.empty() || path.starts_with('/')) return std::string(path);
  return directory + (directory.ends_with('/') ? "" : "/") + std::string(path);
}

void Draft::proxy(std::string_view text, std::string where, std::optional<ProxyUrl> Policy::*slot,
                  bool Claimed::*claim) {
  ParsedProxyUrl parsed = parse_proxy_url(text);
  if (parsed.unset) return;
  configured = true;
  if (!parsed.error.empty()) error(where, parsed.error);
  if (!parsed.warning.empty()) warning(where, parsed.warning);
  if (claimed.*claim) return;
  claimed.*claim = true;
  policy.*slot = std::move(parsed.url);
}

void Draft::exempt(ExemptRules rules) {
  if (claimed.exempt) return;
  claimed.exempt = true;
  policy.exempt = std::move(rules);
}

void Draft::origins(std::vector<Prefix> ranges) {
  if (claimed.origins) return;
  claimed.origins = configured = true;
  policy.reverse.trusted_origins = std::move(ranges);
}

void Draft::headers(std::vector<std::string> names) {
  if (claimed.headers) return;
  claimed.headers = configured = true;
  policy.reverse.headers = std::move(names);
}

void Draft::read_origins(std::string_view list, const std::string& where, std::vector<Prefix>& into) {
  for (const std::string_view entry : split_list(list)) {
    std::optional<Prefix> range = Prefix::parse(entry);
    if (const IpAddress address = IpAddress::parse(entry); !range && address) range = Prefix::of(address);
    if (range) into.push_back(*range);
    else error(where, "expected a range of addresses like 10.0.0.0/8, got " + quoted(entry));
  }
}

void Draft::read_headers(std::string_view list, const std::string& where, std::vector<std::string>& into) {
  // RFC 9110, 5.6.2: token
  const auto fits = [](char c) {
    return is_alpha(c) || is_digit(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  };
  for (const std::string_view entry : split_list(list)) {
    if (std::all_of(entry.begin(), entry.end(), fits)) into.emplace_back(entry);
    else error(where, "expected the name of a header like X-Forwarded-For, got " + quoted(entry));
  }
}

}  // namespace towpath
