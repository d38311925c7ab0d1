// Every vector of tests/vectors/reverse-vectors.json that a connection's first bytes decide, through the code behind
// accept, the HTTP mode and `towpath explain --inbound`.
#include <doctest/doctest.h>

#include "launcher/explain_inbound.h"
#include "tests/unit/reverse_vectors.h"

using namespace towpath;
using namespace towpath::testing;
using Action = InboundExplanation::Action;

namespace {

ReverseSettings settings_of(const ReverseVector& v) {
  ReverseSettings out;
  for (const AddressRange& each : v.trusted) out.trusted_origins.push_back({each.address, each.bits});
  out.headers = v.headers;
  if (v.kind.starts_with("proxy") || v.kind == "keepalive-proxy-then-xff")
    out.proxy_protocol = v.mode == "optional" ? ProxyProtocol::optional : ProxyProtocol::require;
  return out;
}

std::string fields_of(const std::string& head) {
  const std::size_t line = head.find("\r\n");
  return line == head.npos ? "" : head.substr(line + 2);
}

}  // namespace

TEST_CASE("inbound: every vector of one connection's first bytes") {
  int run = 0;
  for (const ReverseVector& v : reverse_vectors()) {
    const bool head = v.kind.starts_with("header-") || v.kind == "keepalive-proxy-then-xff";
    if (!head && !v.kind.starts_with("proxy-")) continue;
    INFO(v.id);
    const ReverseSettings settings = settings_of(v);
    const InboundExplanation out = explain_inbound(settings, default_inbound_rule(settings), v.peer, v.input);
    ++run;
    if (v.expect["reject"]) {
      CHECK(out.action == Action::refuse);
      continue;
    }
    const Action wanted = v.action == "close"         ? Action::close
                          : v.action == "passthrough" ? Action::passthrough
                                                      : Action::accept;
    CHECK(out.action == wanted);
    if (wanted != Action::close) CHECK(out.client == v.client);
    if (const YAML::Node fields = v.expect["forwarded_request_headers"]) {
      std::string lines;
      for (const YAML::Node& each : fields) lines += each.as<std::string>() + "\r\n";
      CHECK(fields_of(out.forwarded_head) == lines + "\r\n");
    }
  }
  CHECK(run == 90);
}

TEST_CASE("inbound: two clients on one connection are told apart") {
  for (const ReverseVector& v : reverse_vectors()) {
    if (v.id != "K-01") continue;
    const ReverseSettings settings = settings_of(v);
    std::string_view rest = v.input;
    for (const YAML::Node& request : v.expect["requests"]) {
      const std::size_t size = rest.find("\r\n\r\n") + 4;
      const auto out = explain_inbound(settings, default_inbound_rule(settings), v.peer, rest.substr(0, size));
      CHECK(text_of(out.client.address) == request["addr"].as<std::string>());
      rest.remove_prefix(size);
    }
  }
}
