
#include "launcher/commands.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdio>

#include <unistd.h>

#include "agent/this_host.h"
#include "config/decide.h"
#include "config/explain.h"
#include "config/services.h"
#include "launcher/explain_inbound.h"

namespace towpath {

namespace {

void print(std::FILE* to, const std::string& text) { std::fwrite(text.data(), 1, text.size(), to); }

// HOST:PORT with an IPv6 host in brackets. What is wrong with it, "" when nothing is.
std::string split_destination(const std::string& text, std::string& host, std::uint16_t& port) {
  const std::string no_form = "is not HOST:PORT (an IPv6 host stands in brackets)";
  const auto bracket = text.starts_with('[') ? text.find(']') : text.npos;
  const auto colon = text.find(':', bracket == text.npos ? 0 : bracket);
  host = bracket == text.npos ? text.substr(0, colon) : text.substr(1, bracket - 1);
  if (host.empty() || (text.starts_with('[') && bracket == text.npos)) return no_form;
  if (bracket != text.npos && bracket + 1 != std::min(colon, text.size())) return no_form;
  if (colon == text.npos || colon + 1 == text.size()) return "has no port: try " + text.substr(0, colon) + ":443";
  const std::string digits = text.substr(colon + 1);
  if (digits.find_first_not_of("0123456789") != digits.npos) return no_form;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc{} && port != 0 ? "" : "has a port out of range 1 to 65535";
}

// This host as it is now: an agent follows it, and a command is over before it changes.
struct FoundHost {
  std::string name = own_host_name();
  std::vector<IpAddress> addresses = own_addresses();

  [[nodiscard]] Surroundings surroundings() const { return {{}, addresses, name}; }
  [[nodiscard]] std::string comment() const {
    std::string out = "# always direct: localhost, loopback";
    if (!name.empty()) out += ", this host's name (" + name + ")";
    std::string list;
    for (const IpAddress& each : addresses) list += (list.empty() ? "" : " ") + text_of(each);
    if (!list.empty()) out += ", its addresses (" + list + ")";
    return out + "\n";
  }
};

}  // namespace

Sources lasting_sources(const Common& options) {
  Sources out{options.file, options.overrides, environment_map(environ)};
  char directory[PATH_MAX];
  if (getcwd(directory, sizeof directory) != nullptr) out.directory = directory;
  return out;
}

Loaded load_and_report(const Common& options) {
  return load_and_report(Sources{options.file, options.overrides, environment_map(environ)});
}

Loaded load_and_report(const Sources& sources) {
  Loaded loaded = load(sources);
  for (const Problem& problem : loaded.problems)
    print(stderr, std::string("towpath: ") + (problem.severity == Problem::Severity::warning ? "warning: " : "") +
                      problem.text() + "\n");
  return loaded;
}

void warn_of_nothing(const Policy& policy) {
  if (policy.any_proxy() || inbound_on(policy.reverse)) return;
  print(
      stderr,
      "towpath: warning: neither a proxy nor a reverse proxy is configured, every connection goes direct: give -c FILE "
      "or --http, or set TOWPATH_CONFIG or http_proxy\n");
}

int check_command(const Common& options) {
  const Loaded loaded = load_and_report(options);
  if (!loaded.policy) return 1;
  warn_of_nothing(*loaded.policy);
  const FoundHost host;
  for (const Problem& problem : tunnelled_services(*loaded.policy, environment_map(environ), host.surroundings()))
    print(stderr, "towpath: warning: " + problem.text() + "\n");
  print(stdout, describe(*loaded.policy) + host.comment());
  return 0;
}

int explain_command(const ExplainOptions& options) {
  const Loaded loaded = load_and_report(options.common);
  if (!loaded.policy) return 1;
  std::string host;
  Destination destination;
  if (const std::string wrong = split_destination(options.destination, host, destination.port); !wrong.empty()) {
    print(stderr, "towpath: explain: \"" + options.destination + "\" " + wrong + "\n");
    return exit_towpath_failed;
  }
  warn_of_nothing(*loaded.policy);
  destination.name = host;
  if (!options.address.empty()) {
    destination.address = IpAddress::parse(options.address);
    if (!destination.address) {
      print(stderr, "towpath: explain: --address \"" + options.address + "\" is not an IP address\n");
      return exit_towpath_failed;
    }
  }
  const Decision decision = decide(*loaded.policy, destination, FoundHost().surroundings());
  const std::string_view source = source_of(*loaded.policy, decision);
  print(stdout,
        (options.json ? explain_json(decision, destination, source) : explain_text(decision, destination, source)) +
            "\n");
  return 0;
}

int explain_inbound_command(const ExplainOptions& options) {
  const Loaded loaded = load_and_report(options.common);
  if (!loaded.policy) return 1;
  std::string host;
  Endpoint peer;
  const std::string wrong = split_destination(options.peer, host, peer.port);
  peer.address = IpAddress::parse(host);
  if (!wrong.empty() || !peer.address) {
    print(stderr,
          "towpath: explain: --peer is to say who connects, like 10.0.0.1:40000 or [2001:db8::1]:40000; got \"" +
              options.peer + "\"\n");
    return exit_towpath_failed;
  }
  // A head and a PROXY header at their longest, and no more.
  constexpr std::size_t most = 128 * 1024;
  std::string bytes(most, '\0');
  bytes.resize(std::fread(bytes.data(), 1, most, stdin));
  const ReverseSettings& reverse = loaded.policy->reverse;
  const InboundRule rule = options.listener == 0 ? default_inbound_rule(reverse)
                                                 : inbound_rule(reverse, static_cast<std::uint16_t>(options.listener));
  const InboundExplanation explanation = explain_inbound(reverse, rule, peer, bytes);
  print(stdout, options.json ? inbound_json(explanation) : inbound_text(explanation));
  return 0;
}

}  // namespace towpath
