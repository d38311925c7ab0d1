#include "config/draft.h"

#include <algorithm>

#include "base/endpoint.h"
#include "config/text.h"

namespace towpath {

namespace {

constexpr std::string_view separators = ",; \t\r\n";

bool ends_in_port(std::string_view piece) {
  const std::size_t colon = piece.rfind(':');
  return colon != piece.npos && parse_port(piece.substr(colon + 1)).has_value();
}

// A password may hold a comma, so a value that can be read is taken as it is, unless every part of it is a whole proxy
// with a login of its own: then the first one's address would pass for the second one's password.
bool looks_like_several(std::string_view text, const ParsedProxyUrl& parsed) {
  std::size_t pieces = 0;
  bool logins = true;
  for (text = trim(text); !text.empty();) {
    const std::string_view piece = text.substr(0, text.find_first_of(separators));
    text.remove_prefix(std::min(piece.size() + 1, text.size()));
    if (piece.empty()) continue;
    if (!parse_proxy_url(piece).url) return false;
    logins = logins && piece.find('@') != piece.npos && ends_in_port(piece);
    ++pieces;
  }
  return pieces > 1 && (!parsed.url || logins);
}

}  // namespace

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

void Draft::proxies(const std::vector<Given>& given, ProxyList Policy::*slot, bool Claimed::*claim) {
  ProxyList list;
  bool any = false;
  std::size_t count = 0;
  for (const Given& each : given) {
    ParsedProxyUrl parsed = parse_proxy_url(each.text);
    if (parsed.unset) continue;
    any = configured = true;
    if (++count == most_proxies + 1)
      error(each.where, "too many proxies: " + std::to_string(most_proxies) + " at most in one list");
    if (looks_like_several(each.text, parsed)) {
      error(each.where,
            "looks like several proxies in one value: write a list, [FIRST, SECOND], in the values file, or give the "
            "option once for each");
      continue;
    }
    if (!parsed.error.empty()) error(each.where, parsed.error);
    if (!parsed.warning.empty()) warning(each.where, parsed.warning);
    if (!parsed.url) continue;
    if (std::any_of(list.begin(), list.end(), [&](const ProxyUrl& other) { return is_same_proxy(other, *parsed.url); }))
      error(each.where, "the same proxy is in this list already: take it out, or correct it");
    else list.push_back(std::move(*parsed.url));
  }
  if (!any || claimed.*claim) return;
  claimed.*claim = true;
  (claim == &Claimed::http    ? policy.said.http
   : claim == &Claimed::https ? policy.said.https
                              : policy.said.all) = given.front().where;
  policy.*slot = std::move(list);
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
