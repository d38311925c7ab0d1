#include "config/services.h"

#include <algorithm>

#include "config/decide.h"
#include "config/text.h"

namespace towpath {

namespace {

constexpr const char* database_variable = "CODER_PG_CONNECTION_URL";
constexpr const char* cluster_variable = "KUBERNETES_SERVICE_HOST";
constexpr std::uint16_t postgres_port = 5432;

struct Service {
  std::string host;
  std::uint16_t port = 0;
};

Service split(std::string_view authority, std::uint16_t usual) {
  const bool bracket = authority.starts_with('[');
  const auto close = bracket ? authority.find(']') : 0;
  if (close == authority.npos) return {};
  const auto colon = authority.find(':', close);
  Service out{std::string(bracket ? authority.substr(1, close - 1) : authority.substr(0, colon)), usual};
  if (colon != authority.npos) out.port = parse_port(authority.substr(colon + 1)).value_or(usual);
  return out;
}

// The value of a keyword of libpq's other form: host=db port=5432. Quoted values are not taken apart: no host needs
// them.
std::string_view keyword(std::string_view text, std::string_view name) {
  for (const std::string_view word : split_list(text))
    if (word.starts_with(name) && word.size() > name.size() && word[name.size()] == '=')
      return word.substr(name.size() + 1);
  return {};
}

// Its first host. None: a UNIX domain socket, several forms in one, or not what it should be.
Service database(std::string_view url) {
  const auto scheme = url.find("://");
  if (scheme == url.npos) {
    const std::string_view host = keyword(url, "host");
    return {std::string(host), parse_port(keyword(url, "port")).value_or(postgres_port)};
  }
  std::string_view authority = url.substr(scheme + 3);
  // A password may hold what ends an authority elsewhere.
  const auto at = authority.substr(0, authority.find('?')).rfind('@');
  if (at != authority.npos) authority.remove_prefix(at + 1);
  authority = authority.substr(0, authority.find_first_of("/?#,"));
  return split(authority, postgres_port);
}

void judge(const Policy& policy, const Surroundings& around, const char* variable, const Service& service,
           std::vector<Problem>& out) {
  if (service.host.empty() || service.host.starts_with('/')) return;
  Destination destination;
  destination.name = service.host;
  destination.address = IpAddress::parse(service.host);
  destination.port = service.port;
  const Decision decision = decide(policy, destination, around);
  if (decision.kind != RouteKind::tunnel) return;
  const bool usual = service.port == 80 || service.port == 443;
  out.push_back({Problem::Severity::warning, std::string("$") + variable,
                 service.host + ":" + std::to_string(service.port) + " would be tunnelled through " +
                     decision.proxies.front().display() + ": add " + service.host + " to exempt" +
                     (usual ? "" : ", or set ports: [80, 443]") + ", unless that proxy can reach it"});
}

}  // namespace

std::vector<Problem> tunnelled_services(const Policy& policy, const std::map<std::string, std::string>& environment,
                                        const Surroundings& around) {
  std::vector<Problem> out;
  const auto value = [&](const char* name) {
    const auto at = environment.find(name);
    return at == environment.end() ? std::string_view() : trim(at->second);
  };
  if (const auto url = value(database_variable); !url.empty())
    judge(policy, around, database_variable, database(url), out);
  if (const auto host = value(cluster_variable); !host.empty())
    judge(policy, around, cluster_variable,
          {std::string(host), parse_port(value("KUBERNETES_SERVICE_PORT")).value_or(443)}, out);
  return out;
}

}  // namespace towpath
