#include "config/read_file.h"

#include <algorithm>
#include <array>

#include "config/document.h"
#include "config/host_name.h"
#include "config/section.h"
#include "config/text.h"

#include <unistd.h>

namespace towpath {

namespace {

using namespace std::chrono_literals;
using Words = std::span<const std::string_view>;

constexpr std::array<std::string_view, 2> dns_words = {"proxy", "local"}, udp_words = {"allow", "block"},
                                          setuid_words = {"refuse", "direct"};
constexpr std::array<std::string_view, 3> plain_words = {"auto", "connect", "absolute"},
                                          mode_words = {"http", "proxy", "raw"};
// "off" may have become a boolean on its way through a template.
constexpr std::array<std::string_view, 5> proxy_protocol_words = {"off", "optional", "require", "false", "no"};

template <class Enum>
void set_word(Section& in, std::string_view key, Words words, Enum& out) {
  if (const auto index = in.word(key, words)) out = static_cast<Enum>(*index);
}

void read_proxy_url(Section& in, std::string_view key, Draft& draft, std::optional<ProxyUrl> Policy::*slot,
                    bool Draft::Claimed::*claim) {
  const Node* found = in.get(key);
  if (found == nullptr) return;
  if (found->kind == Node::Kind::list && found->items.size() > 1)
    return in.error(*found, key, "several proxies are not supported yet: give one");
  const Node& value = found->kind == Node::Kind::list ? found->items[0] : *found;
  if (value.empty()) return;
  if (value.kind != Node::Kind::scalar)
    return in.error(value, key, "expected a proxy like http://proxy.example.com:3128");
  draft.proxy(value.text, in.where(value, key), slot, claim);
}

void read_exempt(Section& in, Draft& draft) {
  ExemptRules rules;
  bool given = false;
  in.list("exempt", [&](const std::string& text, const std::string& where) {
    given = given || !split_list(text).empty();
    rules.add(text, where, Problem::Severity::error, draft.problems);
  });
  if (given) draft.exempt(std::move(rules));
}

void read_ports(Section& in, PortSet& out) {
  const Node* found = in.get("ports");
  if (found == nullptr || (found->kind == Node::Kind::scalar && lower_ascii(found->text) == "all")) return;
  if (found->kind != Node::Kind::list)
    return in.error(*found, "ports", "expected all, or a list of ports like [80, 443]");
  out.all = false;
  for (std::size_t i = 0; i < found->items.size(); ++i) {
    const Node& item = found->items[i];
    if (const auto port = parse_port(item.text))
      out.ports.push_back(*port);
    else
      in.error(item, "ports[" + std::to_string(i) + "]", "expected 1 to 65535, got " + quoted(item.text));
  }
  std::sort(out.ports.begin(), out.ports.end());
  out.ports.erase(std::unique(out.ports.begin(), out.ports.end()), out.ports.end());
}

void read_synthetic_range(Section& in, Prefix& out) {
  const auto text = in.text("syntheticRange");
  if (!text) return;
  const auto range = Prefix::parse(*text);
  const bool usable = range && range->address.is_v4() && range->bits >= 8 && range->bits <= 28 &&
                      (range->address.bytes()[0] & 0xe0) != 0xe0 && range->address.bytes()[0] != 0 &&
                      range->address.bytes()[0] != 127;
  if (usable)
    out = *range;
  else
    in.error(*in.get("syntheticRange"), "syntheticRange",
             "expected an IPv4 range that nobody uses, from /8 to /28, like 198.18.0.0/15, got " + quoted(*text));
}

// A path to a file that must be there now: otherwise the first connection would find out.
std::string read_path(Section& in, std::string_view key) {
  const auto path = in.text(key);
  if (!path) return {};
  if (::access(path->c_str(), R_OK) == -1) in.error(*in.get(key), key, "cannot read " + quoted(*path));
  return *path;
}

void read_tls(Section& proxy, std::string_view file, Draft& draft) {
  const Node* found = proxy.get("tls");
  if (found == nullptr) return;
  Section in(*found, proxy.path_of("tls"), file, draft.problems);
  TlsSettings& tls = draft.policy.tls;
  tls.ca_file = read_path(in, "caFile");
  in.list("caDirs", [&](const std::string& text, const std::string&) { tls.ca_dirs.push_back(text); });
  tls.cert_file = read_path(in, "certFile");
  tls.key_file = read_path(in, "keyFile");
  draft.claimed.authorities = !tls.ca_file.empty() || !tls.ca_dirs.empty();
  draft.claimed.client_certificate = !tls.cert_file.empty() || !tls.key_file.empty();
  if (tls.cert_file.empty() != tls.key_file.empty())
    in.error(*found, tls.cert_file.empty() ? "certFile" : "keyFile",
             "certFile and keyFile go together: one is missing");
  if (const auto name = in.text("serverName")) {
    tls.server_name = normalise_name(*name);
    if (tls.server_name.empty())
      in.error(*in.get("serverName"), "serverName", "expected a host name, got " + quoted(*name));
  }
  tls.insecure_skip_verify = in.boolean("insecureSkipVerify").value_or(false);
  if (tls.insecure_skip_verify)
    in.warning(*in.get("insecureSkipVerify"), "insecureSkipVerify",
               "the proxy's certificate is not checked: anybody can pose as the proxy");
  in.finish();
}

void read_proxy(const Node& node, const std::string& path, const std::string& file, Draft& draft) {
  Section in(node, path, file, draft.problems);
  Policy& policy = draft.policy;
  read_proxy_url(in, "http", draft, &Policy::http, &Draft::Claimed::http);
  read_proxy_url(in, "https", draft, &Policy::https, &Draft::Claimed::https);
  read_proxy_url(in, "all", draft, &Policy::all, &Draft::Claimed::all);
  read_exempt(in, draft);
  read_ports(in, policy.ports);
  set_word(in, "dns", dns_words, policy.dns);
  set_word(in, "udp", udp_words, policy.udp);
  set_word(in, "plainHttp", plain_words, policy.plain_http);
  read_synthetic_range(in, policy.synthetic_range);
  policy.connect_timeout = in.duration("connectTimeout", 10ms, 1h).value_or(policy.connect_timeout);
  set_word(in, "setuid", setuid_words, policy.setuid);
  if (const auto credentials = in.text("credentialsFile"))
    draft.credentials_file = {*credentials, in.where(*in.get("credentialsFile"), "credentialsFile")};
  read_tls(in, file, draft);
  in.finish();
}

void read_managed_ports(Section& reverse, const std::string& file, Draft& draft) {
  const Node* found = reverse.get("ports");
  if (found == nullptr || (found->kind == Node::Kind::scalar && lower_ascii(found->text) == "all")) return;
  if (found->kind != Node::Kind::list)
    return reverse.error(*found, "ports", "expected all, or a list like [{port: 8080, mode: http}]");
  draft.policy.reverse.all_ports = false;
  std::vector<ManagedPort>& ports = draft.policy.reverse.ports;
  for (std::size_t i = 0; i < found->items.size(); ++i) {
    const Node& item = found->items[i];
    const std::string key = "ports[" + std::to_string(i) + "]";
    ManagedPort managed;
    const Node* number = &item;
    if (item.kind == Node::Kind::map) {
      Section in(item, reverse.path_of(key), file, draft.problems);
      number = in.get("port");
      set_word(in, "mode", mode_words, managed.mode);
      in.finish();
    }
    const auto port = parse_port(number != nullptr ? number->text : "");
    const auto same = [&](const ManagedPort& other) { return other.port == port; };
    if (!port)
      reverse.error(number != nullptr ? *number : item, key,
                    "expected a port from 1 to 65535, or {port: 8080, mode: http}");
    else if (std::any_of(ports.begin(), ports.end(), same))
      reverse.error(item, key, "port " + std::to_string(*port) + " is there twice");
    else
      managed.port = *port, ports.push_back(managed);
  }
}

void read_reverse(const Node& node, const std::string& path, const std::string& file, Draft& draft) {
  Section in(node, path, file, draft.problems);
  ReverseSettings& reverse = draft.policy.reverse;
  std::vector<Prefix> ranges;
  bool given = false;
  in.list("trustedOrigins", [&](const std::string& text, const std::string& where) {
    given = given || !split_list(text).empty();
    draft.read_origins(text, where, ranges);
  });
  if (given) draft.origins(std::move(ranges));
  std::vector<std::string> names;
  in.list("headers",
          [&](const std::string& text, const std::string& where) { draft.read_headers(text, where, names); });
  if (!names.empty()) draft.headers(std::move(names));
  if (const auto index = in.word("proxyProtocol", proxy_protocol_words))
    reverse.proxy_protocol = *index > 2 ? ProxyProtocol::off : static_cast<ProxyProtocol>(*index);
  read_managed_ports(in, file, draft);
  reverse.strip = in.boolean("strip").value_or(false);
  reverse.header_timeout = in.duration("headerTimeout", 10ms, 10min).value_or(reverse.header_timeout);
  in.finish();
}

// Anything but an exempt list, which changes nothing by itself (the chart's own default has one).
bool says_something(const Node& section) {
  return std::any_of(section.members.begin(), section.members.end(),
                     [](const Member& member) { return member.key != "exempt" && !member.value.empty(); });
}

void report_repeated(const Node& map, const std::string& prefix, const std::string& file, Draft& draft) {
  for (std::size_t i = 0; i < map.members.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (map.members[i].key == map.members[j].key)
        draft.error(place(file, map.members[i].at) + ": " + prefix + map.members[i].key,
                    "this key is already in line " + std::to_string(map.members[j].at.line));
}

}  // namespace

void read_file_text(std::string_view text, const std::string& file, Draft& draft) {
  const std::size_t problems_before = draft.problems.size();
  const Node root = parse_document(text, file, draft.problems);
  if (draft.problems.size() != problems_before) return;
  if (root.kind != Node::Kind::map && !root.empty())
    return draft.error(place(file, root.at), "expected a mapping with the key coderd, proxy or reverseProxy");
  const Node* coderd = root.find("coderd");
  if (coderd != nullptr && coderd->kind != Node::Kind::map && !coderd->empty())
    return draft.error(place(file, coderd->at) + ": coderd", "expected a mapping of keys to values");
  report_repeated(root, "", file, draft);
  if (coderd != nullptr) report_repeated(*coderd, "coderd.", file, draft);

  bool found = false;
  const auto read = [&](const char* key, auto&& reader) {
    const Node* below = coderd != nullptr ? coderd->find(key) : nullptr;
    const Node* top = root.find(key);
    if (below != nullptr && top != nullptr && !below->empty() && !top->empty())
      draft.error(place(file, top->at) + ": " + key, std::string("also given as coderd.") + key + " in line " +
                                                         std::to_string(below->at.line) + ": keep one of them");
    for (const Node* section : {below, top}) {
      if (section == nullptr) continue;
      found = true;
      if (section->empty()) continue;
      if (says_something(*section)) draft.configured = true;
      draft.add_source(file);
      reader(*section, section == below ? std::string("coderd.") + key : std::string(key), file, draft);
    }
  };
  read("proxy", read_proxy);
  read("reverseProxy", read_reverse);
  if (!found) draft.warning(file, "no section coderd.proxy, coderd.reverseProxy, proxy or reverseProxy in this file");
}

}  // namespace towpath
