#include "config/reconsider.h"

#include "config/difference.h"
#include "config/inbound.h"

namespace towpath {

namespace {

constexpr std::size_t longest_line = 1500;  // bytes; a line of the log is written at once, PIPE_BUF at most

// Keeps of the running policy what the tree was started with.
void keep_fixed(const Policy& running, bool inbound_possible, Policy& fresh, std::vector<std::string>& at_next_start) {
  if (!(fresh.synthetic_range == running.synthetic_range)) {
    at_next_start.emplace_back("proxy.syntheticRange");
    fresh.synthetic_range = running.synthetic_range;
  }
  if (!inbound_possible && inbound_on(fresh.reverse)) {
    at_next_start.emplace_back("reverseProxy");
    fresh.reverse = running.reverse;
  }
}

}  // namespace

std::string in_one_line(const std::vector<std::string>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i != 0 && out.size() + words[i].size() > longest_line)
      return out + "; and " + std::to_string(words.size() - i) + " more";
    out += (i == 0 ? "" : "; ") + words[i].substr(0, longest_line);
  }
  return out;
}

Reconsidered reconsider(const Policy& running, bool inbound_possible, const Sources& sources) {
  Loaded loaded = load(sources);
  Reconsidered out;
  out.files = std::move(loaded.files);
  std::vector<std::string> errors;
  for (const Problem& each : loaded.problems)
    (each.severity == Problem::Severity::error ? errors : out.warnings).push_back(each.text());
  if (!loaded.policy) {
    out.refused = in_one_line(errors);
    return out;
  }
  Policy fresh = *loaded.policy;
  keep_fixed(running, inbound_possible, fresh, out.at_next_start);
  if (running.any_proxy() && !fresh.any_proxy()) {
    out.refused = "it names no proxy any more, so everything would go direct";
  } else if (inbound_on(running.reverse) && !inbound_on(fresh.reverse)) {
    out.refused = "it switches the reverse proxy off, so every client would be shown as whoever is in front";
  } else {
    out.changes = differences(running, fresh);
    if (!out.changes.empty() || !out.at_next_start.empty())
      out.policy = std::make_shared<const Policy>(std::move(fresh));
  }
  return out;
}

}  // namespace towpath
