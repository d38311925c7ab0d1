#include "config/read_section.h"

#include <algorithm>
#include <array>

#include "config/host_name.h"
#include "config/section.h"
#include "config/text.h"

#include <unistd.h>

namespace towpath {

namespace {

using namespace std::chrono_literals;

// In the order of the enums' values.
constexpr std::array<std::string_view, 2> dns_words = {"proxy", "local"};
constexpr std::array<std::string_view, 2> other_words = {"empty", "forward"};
constexpr std::array<std::string_view, 2> link_local_words = {"direct", "tunnel"};
constexpr std::array<std::string_view, 2> udp_words = {"allow", "block"};
constexpr std::array<std::string_view, 2> setuid_words = {"refuse", "direct"};
constexpr std::array<std::string_view, 3> net_words = {"auto", "require", "off"};
constexpr std::array<std::string_view, 3> plain_words = {"auto", "connect", "absolute"};

void read_proxy_url(Section& in, std::string_view key, Draft& draft, ProxyList Policy::*slot,
                    bool Draft::Claimed::*claim) {
  const Node* found = in.get(key);
  if (found == nullptr) return;
  constexpr const char* expected = "expected a proxy like http://proxy.example.com:3128";
  if (found->kind == Node::Kind::scalar) return draft.proxies({{found->text, in.where(*found, key)}}, slot, claim);
  if (found->kind != Node::Kind::list) return in.error(*found, key, std::string(expected) + ", or a list of such");
  std::vector<Draft::Given> given;
  for (std::size_t i = 0; i < found->items.size(); ++i) {
    const Node& item = found->items[i];
    const std::string item_key = std::string(key) + "[" + std::to_string(i) + "]";
    if (item.kind == Node::Kind::scalar) given.push_back({item.text, in.where(item, item_key)});
    else if (!item.empty()) in.error(item, item_key, expected);
  }
  draft.proxies(given, slot, claim);
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
    if (const auto port = parse_port(item.text)) out.ports.push_back(*port);
    else in.error(item, "ports[" + std::to_string(i) + "]", "expected 1 to 65535, got " + quoted(item.text));
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
  if (usable) out = *range;
  else
    in.error(*in.get("syntheticRange"), "syntheticRange",
             "expected an IPv4 range that nobody uses, from /8 to /28, like 198.18.0.0/15, got " + quoted(*text));
}

// A path to a file that must be there now: otherwise the first connection would find out.
std::string read_path(Section& in, std::string_view key, const Draft& draft) {
  const auto text = in.text(key);
  if (!text) return {};
  std::string path = draft.resolved(*text);
  if (::access(path.c_str(), R_OK) == -1) in.error(*in.get(key), key, "cannot read " + quoted(path));
  return path;
}

void read_tls(Section& proxy, std::string_view file, Draft& draft) {
  const Node* found = proxy.get("tls");
  if (found == nullptr) return;
  Section in(*found, proxy.path_of("tls"), file, draft.problems);
  TlsSettings& tls = draft.policy.tls;
  tls.ca_file = read_path(in, "caFile", draft);
  in.list("caDirs", [&](const std::string& text, const std::string&) { tls.ca_dirs.push_back(draft.resolved(text)); });
  tls.cert_file = read_path(in, "certFile", draft);
  tls.key_file = read_path(in, "keyFile", draft);
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

}  // namespace

void read_proxy_section(const Node& node, const std::string& path, const std::string& file, Draft& draft) {
  Section in(node, path, file, draft.problems);
  Policy& policy = draft.policy;
  read_proxy_url(in, "http", draft, &Policy::http, &Draft::Claimed::http);
  read_proxy_url(in, "https", draft, &Policy::https, &Draft::Claimed::https);
  read_proxy_url(in, "all", draft, &Policy::all, &Draft::Claimed::all);
  read_exempt(in, draft);
  read_ports(in, policy.ports);
  in.choice("dns", dns_words, policy.dns);
  in.choice("dnsOtherTypes", other_words, policy.other_types);
  in.choice("udp", udp_words, policy.udp);
  in.choice("linkLocal", link_local_words, policy.link_local);
  in.choice("plainHttp", plain_words, policy.plain_http);
  read_synthetic_range(in, policy.synthetic_range);
  policy.connect_timeout = in.duration("connectTimeout", 10ms, 1h).value_or(policy.connect_timeout);
  in.choice("setuid", setuid_words, policy.setuid);
  in.choice("net", net_words, policy.net);
  if (const auto credentials = in.text("credentialsFile"))
    draft.credentials_file = {draft.resolved(*credentials), in.where(*in.get("credentialsFile"), "credentialsFile")};
  read_tls(in, file, draft);
  in.finish();
}

}  // namespace towpath
