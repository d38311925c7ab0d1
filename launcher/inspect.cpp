
#include "launcher/commands.h"

#include <charconv>
#include <cstdio>

#include <unistd.h>

#include "config/decide.h"
#include "config/explain.h"

namespace towpath {

namespace {

void print(std::FILE* to, const std::string& text) { std::fwrite(text.data(), 1, text.size(), to); }

// HOST:PORT with an IPv6 host in brackets. False when it is neither.
bool split_destination(const std::string& text, std::string& host, std::uint16_t& port) {
  const auto colon = text.rfind(':');
  if (colon == text.npos || colon == 0) return false;
  host = text.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  else if (host.find(':') != host.npos) return false;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, port);
  return error == std::errc{} && stop == end && port != 0 && !host.empty();
}

}  // namespace

Loaded load_and_report(const Common& options) {
  Loaded loaded = load({options.file, options.overrides, environment_map(environ)});
  for (const Problem& problem : loaded.problems)
    print(stderr, std::string("towpath: ") + (problem.severity == Problem::Severity::warning ? "warning: " : "") +
                      problem.text() + "\n");
  return loaded;
}

int check_command(const Common& options) {
  const Loaded loaded = load_and_report(options);
  if (!loaded.policy) return 1;
  print(stdout, describe(*loaded.policy));
  return 0;
}

int explain_command(const ExplainOptions& options) {
  const Loaded loaded = load_and_report(options.common);
  if (!loaded.policy) return 1;
  std::string host;
  Destination destination;
  if (!split_destination(options.destination, host, destination.port)) {
    print(stderr, "towpath: explain: \"" + options.destination + "\" is not HOST:PORT (an IPv6 host stands in brackets)\n");
    return exit_towpath_failed;
  }
  destination.name = host;
  if (!options.address.empty()) {
    destination.address = IpAddress::parse(options.address);
    if (!destination.address) {
      print(stderr, "towpath: explain: --address \"" + options.address + "\" is not an IP address\n");
      return exit_towpath_failed;
    }
  }
  const Decision decision = decide(*loaded.policy, destination);
  print(stdout, (options.json ? explain_json(decision, destination) : explain_text(decision, destination)) + "\n");
  return 0;
}

}  // namespace towpath
