#include "config/read_environment.h"

#include <initializer_list>

#include "config/text.h"

namespace towpath {

namespace {

constexpr const char* proxy_variables[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                                           "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};

struct Variable {
  std::string name;  // empty: none of them is set
  std::string_view value;

  explicit operator bool() const noexcept { return !name.empty(); }
  [[nodiscard]] std::string where() const { return "$" + name; }
};

// The first of `names` that holds more than blanks: the chart exports "" for what is not set.
Variable first_of(const Environment& environment, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    // RFC 3875 servers turn a request's "Proxy:" header into HTTP_PROXY.
    if (std::string_view(name) == "HTTP_PROXY" && environment.contains("REQUEST_METHOD")) continue;
    const auto found = environment.find(name);
    if (found != environment.end() && !trim(found->second).empty()) return {name, found->second};
  }
  return {};
}

void read_proxy(const Environment& environment, std::initializer_list<const char*> names, Draft& draft,
                ProxyList Policy::*slot, bool Draft::Claimed::*claim) {
  const Variable variable = first_of(environment, names);
  if (!variable || draft.claimed.*claim) return;
  draft.add_source("environment");
  draft.proxies({{std::string(variable.value), variable.where()}}, slot, claim);
}

void read_tls(const Environment& environment, Draft& draft) {
  TlsSettings& tls = draft.policy.tls;
  if (!draft.claimed.authorities) {
    if (const Variable file = first_of(environment, {"SSL_CERT_FILE"})) tls.ca_file = file.value;
    std::string_view dirs = first_of(environment, {"SSL_CERT_DIR"}).value;
    while (!dirs.empty()) {
      const std::string_view dir = dirs.substr(0, dirs.find(':'));
      dirs.remove_prefix(std::min(dir.size() + 1, dirs.size()));
      if (!dir.empty()) tls.ca_dirs.emplace_back(dir);
    }
  }
  if (draft.claimed.client_certificate) return;
  const Variable certificate = first_of(environment, {"SSL_CLIENT_CERT_FILE"});
  const Variable key = first_of(environment, {"SSL_CLIENT_KEY_FILE"});
  if (certificate && key) {
    tls.cert_file = certificate.value;
    tls.key_file = key.value;
  } else if (certificate || key) {
    draft.warning(certificate ? certificate.where() : key.where(),
                  "not used: SSL_CLIENT_CERT_FILE and SSL_CLIENT_KEY_FILE go together");
  }
}

}  // namespace

void read_environment(const Environment& environment, Draft& draft) {
  read_proxy(environment, {"http_proxy", "HTTP_PROXY"}, draft, &Policy::http, &Draft::Claimed::http);
  read_proxy(environment, {"https_proxy", "HTTPS_PROXY"}, draft, &Policy::https, &Draft::Claimed::https);
  read_proxy(environment, {"all_proxy", "ALL_PROXY"}, draft, &Policy::all, &Draft::Claimed::all);
  if (const Variable list = first_of(environment, {"no_proxy", "NO_PROXY"}); list && !draft.claimed.exempt) {
    draft.add_source("environment");
    draft.exempt(ExemptRules::parse(list.value, list.where(), draft.problems));
  }
  if (const Variable list = first_of(environment, {"CODER_PROXY_TRUSTED_ORIGINS", "PROXY_TRUSTED_ORIGINS"});
      list && !draft.claimed.origins) {
    std::vector<Prefix> ranges;
    draft.read_origins(list.value, list.where(), ranges);
    draft.add_source("environment");
    draft.origins(std::move(ranges));
  }
  if (const Variable list = first_of(environment, {"CODER_PROXY_TRUSTED_HEADERS", "PROXY_TRUSTED_HEADERS"});
      list && !draft.claimed.headers) {
    std::vector<std::string> names;
    draft.read_headers(list.value, list.where(), names);
    draft.add_source("environment");
    draft.headers(std::move(names));
  }
  read_tls(environment, draft);
}

std::vector<std::string> present_proxy_variables(const Environment& environment) {
  std::vector<std::string> out;
  for (const char* name : proxy_variables)
    if (environment.contains(name)) out.emplace_back(name);
  return out;
}

}  // namespace towpath
