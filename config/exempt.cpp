#include "config/exempt.h"

#include <algorithm>

#include "config/host_name.h"
#include "config/text.h"

namespace towpath {

namespace {

// "host:port" split as Go's net.SplitHostPort does it. `bracketed` tells [host] from host.
struct Split {
  std::string_view host, port;
  bool has_port = false, bracketed = false, ok = false;
};

Split split_port(std::string_view entry) noexcept {
  Split out;
  if (entry.starts_with('[')) {
    const std::size_t end = entry.find(']');
    if (end == entry.npos) return out;
    const std::string_view rest = entry.substr(end + 1);
    out = {entry.substr(1, end - 1), {}, !rest.empty(), true, rest.empty() || rest[0] == ':'};
    if (out.has_port) out.port = rest.substr(1);
    return out;
  }
  const std::size_t colon = entry.find(':');
  if (colon == entry.npos || entry.find(':', colon + 1) != entry.npos) return {entry, {}, false, false, true};
  return {entry.substr(0, colon), entry.substr(colon + 1), true, false, true};
}

std::string slash_complaint(std::string_view entry) {
  const std::string_view before = entry.substr(0, entry.find('/'));
  if (before.starts_with('[')) return "a range is written without brackets, like 2001:db8::/32";
  if (!IpAddress::parse(before)) return "write the host alone, without a path";
  const std::string_view length = entry.substr(before.size() + 1);
  if (length.find(':') != length.npos) return "a range cannot have a port";
  return before.find(':') == before.npos ? "bad range: expected a length of 0 to 32 after \"/\", like 10.0.0.0/8"
                                         : "bad range: expected a length of 0 to 128 after \"/\", like 2001:db8::/32";
}

}  // namespace

bool ExemptRules::Rule::covers(std::string_view host, const IpAddress& address) const noexcept {
  switch (kind) {
    case Kind::everything: return true;
    case Kind::undotted: return !host.empty() && host.find('.') == host.npos;
    case Kind::range: return range.contains(address);
    case Kind::name:
      if (host == name) return true;
      [[fallthrough]];
    case Kind::subdomains:
      return host.size() > name.size() && host.ends_with(name) && host[host.size() - name.size() - 1] == '.';
  }
  return false;
}

// Everything but the port.
std::string ExemptRules::read_target(std::string_view target, Rule& rule) {
  if (target.find_first_not_of('.') == target.npos || target == "*.") return "nothing but dots";
  if (target == "*") return "\"*\" takes no port";
  if (const IpAddress address = IpAddress::parse(target)) {
    rule.kind = Rule::Kind::range;
    rule.range = Prefix::of(address);
    return {};
  }
  rule.kind = target.starts_with("*.") || target.starts_with('.') ? Rule::Kind::subdomains : Rule::Kind::name;
  if (target.starts_with('*') && rule.kind == Rule::Kind::subdomains) target.remove_prefix(1);
  if (rule.kind == Rule::Kind::subdomains) target.remove_prefix(1);
  if (target.find('*') != target.npos)
    return "\"*\" stands alone or as \"*.\" at the start: use .example.com or a range";
  if (target.find(':') != target.npos) return "two ports, or a bad IPv6 address";
  rule.name = normalise_name(target);
  return rule.name.empty() ? "no usable host name" : "";
}

std::string ExemptRules::read(std::string_view entry, Rule& rule) {
  rule.text = entry;
  if (has_control(entry)) return "control character";
  if (std::any_of(entry.begin(), entry.end(), is_quote)) return "quote character: remove the quotes";
  if (entry.find("://") != entry.npos) return "a URL: write the host alone";
  if (entry.find_first_of(";|") != entry.npos) return "separate entries with commas";
  if (entry.find('@') != entry.npos) return "write the host alone, without a user";
  if (entry == "*") {
    rule.kind = Rule::Kind::everything;
    return {};
  }
  if (lower_ascii(entry) == "<local>") {
    rule.kind = Rule::Kind::undotted;
    return {};
  }
  if (const auto range = Prefix::parse(entry)) {
    rule.kind = Rule::Kind::range;
    rule.range = *range;
    return {};
  }
  if (entry.find('/') != entry.npos) return slash_complaint(entry);
  const Split split = split_port(entry);
  if (!split.ok) return "bad brackets: expected [address] or [address]:port";
  if (split.host.empty()) return "no host before the port";
  if (split.bracketed && !split.has_port && split.host.find(':') == split.host.npos)
    return "brackets are for IPv6 addresses";
  // Go compares ports as text, so that :080 never meets port 80; ours is an error that says so.
  if (!split.port.empty()) {
    const auto port = parse_port(split.port);
    if (!port || split.port[0] == '0') return "bad port: expected 1 to 65535";
    rule.port = *port;
  }
  return read_target(split.host, rule);
}

void ExemptRules::add(std::string_view list, std::string_view where, Problem::Severity unusable,
                      std::vector<Problem>& problems) {
  for (const std::string_view entry : split_list(list)) {
    Rule rule;
    if (const std::string why = read(entry, rule); !why.empty()) {
      problems.push_back({unusable, std::string(where), "unusable entry " + quoted_masked(entry) + ": " + why});
      continue;
    }
    if (rule.kind >= Rule::Kind::name && rule.kind < Rule::Kind::range && ends_in_number(rule.name))
      problems.push_back(
          {Problem::Severity::warning, std::string(where),
           quoted(entry) + " is only ever compared with names: write a range of addresses like 10.0.0.0/8"});
    rule.where = where;
    rules_.push_back(std::move(rule));
  }
}

ExemptRules ExemptRules::parse(std::string_view list, std::string_view where, std::vector<Problem>& warnings) {
  ExemptRules out;
  out.add(list, where, Problem::Severity::warning, warnings);
  return out;
}

ExemptRules::Match ExemptRules::match(std::string_view name, const IpAddress& address, std::uint16_t port) const {
  for (const Rule& rule : rules_)
    if ((rule.port == 0 || rule.port == port) && rule.covers(name, address)) return {true, rule.text};
  return {};
}

ExemptRules::Coverage ExemptRules::coverage(std::string_view name, const IpAddress& address) const noexcept {
  Coverage out = Coverage::none;
  for (const Rule& rule : rules_) {
    if (!rule.covers(name, address)) continue;
    if (rule.port == 0) return Coverage::all_ports;
    out = Coverage::some_ports;
  }
  return out;
}

std::string_view ExemptRules::where(std::string_view text) const noexcept {
  for (const Rule& rule : rules_)
    if (rule.text == text) return rule.where;
  return {};
}

std::vector<std::string> ExemptRules::entries() const {
  std::vector<std::string> out;
  for (const Rule& rule : rules_) out.push_back(rule.text);
  return out;
}

}  // namespace towpath
