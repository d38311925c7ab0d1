// The counterpart of read_file.cpp: what is written here is read there.
#include "config/explain.h"
#include "config/section.h"
#include "config/text.h"

namespace towpath {

namespace {

// A YAML double-quoted scalar (YAML 1.2, 5.7); bytes that are no UTF-8 cannot stand in YAML at all.
std::string scalar(std::string_view text) {
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t size = utf8_size(text);
    const auto byte = static_cast<unsigned char>(text[0]);
    if (size == 0) out += "\\uFFFD";
    else if (text[0] == '"' || text[0] == '\\') out += {'\\', text[0]};
    else if (is_control(text[0])) out += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    else out += text.substr(0, size);
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return out + "\"";
}

template <class Range, class Text>
std::string list(const Range& range, Text text) {
  std::string out;
  for (const auto& item : range) out += (out.empty() ? "" : ", ") + text(item);
  return "[" + out + "]";
}

class Writer {
 public:
  void open(std::string_view key) {
    line(std::string(key) + ":");
    indent_ += 2;
  }
  void close() { indent_ -= 2; }
  void put(std::string_view key, std::string_view value) { line(std::string(key) + ": " + std::string(value)); }
  void line(std::string_view text) { out_ += std::string(indent_, ' ') + std::string(text) + "\n"; }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  std::string out_;
  std::size_t indent_ = 0;
};

std::string proxy_value(const ProxyList& proxies) {
  const auto one = [](const ProxyUrl& proxy) { return scalar(proxy.display_masked()); };
  if (proxies.size() > 1) return list(proxies, one);
  return proxies.empty() ? scalar("") : one(proxies[0]);
}

void write_tls(const TlsSettings& tls, Writer& out) {
  out.open("tls");
  out.put("caFile", scalar(tls.ca_file));
  out.put("caDirs", list(tls.ca_dirs, [](const std::string& dir) { return scalar(dir); }));
  out.put("certFile", scalar(tls.cert_file));
  out.put("keyFile", scalar(tls.key_file));
  out.put("serverName", scalar(tls.server_name));
  out.put("insecureSkipVerify", tls.insecure_skip_verify ? "true" : "false");
  out.close();
}

void write_proxy(const Policy& policy, Writer& out) {
  const auto port = [](std::uint16_t number) { return std::to_string(number); };
  out.open("proxy");
  out.put("http", proxy_value(policy.http));
  out.put("https", proxy_value(policy.https));
  out.put("all", proxy_value(policy.all));
  out.put("exempt", list(policy.exempt.entries(), [](const std::string& entry) { return scalar(entry); }));
  out.put("ports", policy.ports.all ? "all" : list(policy.ports.ports, port));
  out.put("dns", name_of(policy.dns));
  out.put("dnsOtherTypes", name_of(policy.other_types));
  out.put("udp", name_of(policy.udp));
  out.put("linkLocal", name_of(policy.link_local));
  out.put("plainHttp", name_of(policy.plain_http));
  out.put("syntheticRange", policy.synthetic_range.text());
  out.put("connectTimeout", duration_text(policy.connect_timeout));
  out.put("setuid", name_of(policy.setuid));
  out.put("net", name_of(policy.net));
  write_tls(policy.tls, out);
  out.close();
}

void write_reverse(const ReverseSettings& reverse, Writer& out) {
  const auto managed = [](const ManagedPort& port) {
    return "{port: " + std::to_string(port.port) + ", mode: " + std::string(name_of(port.mode)) + "}";
  };
  out.open("reverseProxy");
  out.put("trustedOrigins", list(reverse.trusted_origins, [](const Prefix& range) { return scalar(range.text()); }));
  out.put("headers", list(reverse.headers, [](const std::string& name) { return scalar(name); }));
  out.put("proxyProtocol", scalar(name_of(reverse.proxy_protocol)));
  out.put("ports", reverse.all_ports ? "all" : list(reverse.ports, managed));
  out.put("strip", reverse.strip ? "true" : "false");
  out.put("headerTimeout", duration_text(reverse.header_timeout));
  out.close();
}

}  // namespace

std::string describe(const Policy& policy) {
  Writer out;
  out.line("# from " + quoted(policy.source));
  out.open("coderd");
  write_proxy(policy, out);
  write_reverse(policy.reverse, out);
  return out.take();
}

}  // namespace towpath
