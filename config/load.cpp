#include "config/load.h"

#include <functional>
#include <optional>

#include "config/draft.h"
#include "config/file_text.h"
#include "config/read_environment.h"
#include "config/read_file.h"
#include "config/text.h"

namespace towpath {

namespace {

constexpr std::size_t most_file_bytes = 1 << 20;
constexpr std::size_t most_credential_bytes = 1 << 12;
constexpr std::size_t most_tls_bytes = 4 << 20;  // a bundle of every authority there is has a quarter of a megabyte

void read_overrides(const Overrides& overrides, Draft& draft) {
  const auto given = [](const std::vector<std::string>& texts, const std::string& option) {
    std::vector<Draft::Given> out;
    for (const std::string& text : texts)
      out.push_back({text, texts.size() == 1 ? option : option + "[" + std::to_string(out.size()) + "]"});
    return out;
  };
  draft.proxies(given(overrides.http, "--http"), &Policy::http, &Draft::Claimed::http);
  draft.proxies(given(overrides.https, "--https"), &Policy::https, &Draft::Claimed::https);
  if (!split_list(overrides.exempt).empty()) {
    ExemptRules rules;
    rules.add(overrides.exempt, "--exempt", Problem::Severity::error, draft.problems);
    draft.exempt(std::move(rules));
  }
  if (draft.configured || draft.claimed.exempt) draft.add_source("command line");
}

void read_file(const Sources& sources, Draft& draft, std::vector<std::string>& files) {
  std::string file = sources.file, where = "-c";
  if (file.empty()) {
    const auto found = sources.environment.find("TOWPATH_CONFIG");
    if (found == sources.environment.end() || found->second.empty()) return;
    file = found->second;
    where = "$TOWPATH_CONFIG";
  }
  files.push_back(draft.resolved(file));
  std::string error;
  if (const auto text = read_text_file(files.back(), most_file_bytes, error)) read_file_text(*text, file, draft);
  else draft.error(where, error);
}

std::optional<Credentials> read_credentials(Draft& draft) {
  const std::string& where = draft.credentials_file.where;
  std::string error;
  const auto text = read_text_file(draft.credentials_file.path, most_credential_bytes, error);
  if (!text) {
    draft.error(where, error);
    return std::nullopt;
  }
  std::string_view line = std::string_view(*text).substr(0, text->find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  const std::size_t colon = line.find(':');
  if (colon == line.npos) {
    draft.error(where, "expected user:password in the first line of " + quoted(draft.credentials_file.path));
    return std::nullopt;
  }
  return Credentials{std::string(line.substr(0, colon)), std::string(line.substr(colon + 1))};
}

// The file serves every proxy that has no credentials in its URL.
void apply_credentials_file(Draft& draft) {
  if (draft.credentials_file.path.empty()) return;
  const auto credentials = read_credentials(draft);
  if (!credentials) return;
  for (const auto slot : {&Policy::http, &Policy::https, &Policy::all}) {
    for (ProxyUrl& proxy : draft.policy.*slot) {
      if (proxy.credentials) continue;
      if (const std::string why = unusable_credentials(proxy.scheme, *credentials); !why.empty())
        return draft.error(draft.credentials_file.where, why);
      proxy.credentials = credentials;
    }
  }
}

void check_effect(Draft& draft) {
  const Policy& policy = draft.policy;
  if (!policy.https.empty() && policy.http.empty() && policy.all.empty() && policy.ports.contains(80))
    draft.warning("proxy.https",
                  "connections to port 80 go direct: no proxy is given for them (proxy.http or proxy.all)");
}

void check_sense(Draft& draft) {
  const Policy& policy = draft.policy;
  const ReverseSettings& reverse = policy.reverse;
  bool https = false;
  for (const ProxyList* list : policy.proxy_lists())
    for (const ProxyUrl& proxy : *list) https = https || proxy.scheme == ProxyScheme::https;
  if (!https && (draft.claimed.authorities || draft.claimed.client_certificate))
    draft.warning("proxy.tls", "not used: no proxy is given as https://");
  if (reverse.trusted_origins.empty() && !reverse.headers.empty())
    draft.warning("reverseProxy.headers",
                  "without trustedOrigins nobody is believed: they are removed from every request");
  if (reverse.trusted_origins.empty() && reverse.proxy_protocol != ProxyProtocol::off)
    draft.warning("reverseProxy.proxyProtocol", "not used: without trustedOrigins nobody's PROXY header is believed");
  if (!reverse.trusted_origins.empty() && reverse.headers.empty() && reverse.proxy_protocol == ProxyProtocol::off)
    draft.warning("reverseProxy.trustedOrigins",
                  "not used: neither headers nor proxyProtocol says how clients are announced");
}

// What the TLS files hold: a certificate that was renewed under its old name is another configuration.
void note_tls_files(TlsSettings& tls, std::vector<std::string>& files) {
  std::string all, error;
  const auto read = [&](const std::string& path, std::string& text) {
    if (path.empty()) return;
    files.push_back(path);
    text = read_text_file(path, most_tls_bytes, error).value_or("");
    all += text + '\n';
  };
  read(tls.ca_file, tls.ca_text);
  read(tls.cert_file, tls.cert_text);
  read(tls.key_file, tls.key_text);
  tls.content = std::hash<std::string>{}(all);
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out.empty() ? "defaults" : out;
}

}  // namespace

Loaded load(const Sources& sources) {
  Draft draft;
  Loaded out;
  draft.directory = sources.directory;
  read_overrides(sources.overrides, draft);
  read_file(sources, draft, out.files);
  if (sources.overrides.net) draft.policy.net = *sources.overrides.net;
  read_environment(sources.environment, draft);
  apply_credentials_file(draft);
  check_sense(draft);
  check_effect(draft);
  if (!draft.credentials_file.path.empty()) out.files.push_back(draft.credentials_file.path);
  note_tls_files(draft.policy.tls, out.files);

  const bool broken = has_error(draft.problems);
  draft.policy.source = joined(draft.sources);
  out.problems = std::move(draft.problems);
  out.configured = draft.configured || broken;
  out.used_environment = present_proxy_variables(sources.environment);
  if (!broken) out.policy = std::make_shared<const Policy>(std::move(draft.policy));
  return out;
}

std::map<std::string, std::string> environment_map(char** envp) {
  std::map<std::string, std::string> out;
  for (; envp != nullptr && *envp != nullptr; ++envp) {
    const std::string_view entry(*envp);
    const std::size_t equals = entry.find('=');
    // As getenv() does it, the first of several wins.
    if (equals != entry.npos && equals != 0) out.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return out;
}

}  // namespace towpath
