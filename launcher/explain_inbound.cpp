#include "launcher/explain_inbound.h"

#include "agent/inbound_head.h"
#include "agent/inbound_held.h"
#include "config/explain.h"
#include "proto/http_body.h"
#include "proto/proxy_header.h"

namespace towpath {

namespace {

using Action = InboundExplanation::Action;

InboundExplanation say(Action action, const Endpoint& client, std::string reason) {
  InboundExplanation out;
  out.action = action;
  out.client = client;
  out.reason = std::move(reason);
  return out;
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

InboundExplanation explain_http(const ReverseSettings& settings, const Endpoint& peer, bool trusted,
                                std::string_view bytes) {
  switch (looks_like_client_hello(as_bytes(bytes))) {
    case 1: return say(Action::passthrough, peer, "TLS: what is inside can be neither read nor removed");
    case 0:
      return say(Action::close, peer,
                 "the input ends before it is a request: such a connection is closed after headerTimeout");
    default: break;
  }
  HttpScanner scanner(HttpKind::request);
  const std::string_view text = bytes.substr(0, scanner.feed(bytes));
  if (scanner.flaw() != HttpFlaw::none)
    return say(Action::refuse, peer, "no strict HTTP/1: " + std::string(text_of(scanner.flaw())));
  if (!scanner.complete())
    return say(Action::close, peer,
               "the input ends before the head is complete: such a connection is closed after headerTimeout");
  HttpHead head;
  HttpFlaw flaw = head.parse(HttpKind::request, text);
  if (flaw == HttpFlaw::none) flaw = framing_of(head).flaw;
  if (flaw != HttpFlaw::none) return say(Action::refuse, peer, "no strict HTTP/1: " + std::string(text_of(flaw)));
  const auto ranges = trusted_ranges(settings);
  InboundRequest request = edit_request(head, {peer, trusted, settings.headers, ranges});
  InboundExplanation out = say(Action::accept, request.client, {});
  if (!trusted) out.reason = "the peer is not in trustedOrigins: nothing that it says of itself counts";
  else if (request.header.empty()) out.reason = "no configured header names a client: it is the peer";
  else out.reason = "named by " + std::string(request.header);
  out.has_head = true;
  out.forwarded_head = std::move(request.text);
  return out;
}

}  // namespace

InboundExplanation explain_inbound(const ReverseSettings& settings, const InboundRule& rule, const Endpoint& peer,
                                   std::string_view bytes) {
  if (!rule.managed())
    return say(Action::accept, peer,
               inbound_on(settings) ? "this port is not in reverseProxy.ports, or raw there: accept is untouched"
                                    : "no reverseProxy is configured: accept is untouched");
  const auto ranges = trusted_ranges(settings);
  bool trusted = trusts(ranges, peer.address);
  Endpoint logical = peer;
  std::string reason = "there is no PROXY header: it is the peer";
  if (rule.proxy != ProxyProtocol::off && trusted) {
    const ProxyHeader header = read_proxy_header(as_bytes(bytes));
    const bool required = rule.proxy == ProxyProtocol::require;
    switch (header.state) {
      case ProxyHeader::State::incomplete:
        if (required || sniff_proxy_header(as_bytes(bytes)) != Sniff::need_more)
          return say(
              Action::close, peer,
              "the input ends before the PROXY header is complete: such a connection is closed after headerTimeout");
        reason = "the input has no PROXY header, which is optional here: it is the peer";
        break;
      case ProxyHeader::State::absent:
        if (required) return say(Action::close, peer, "no PROXY header");
        break;
      case ProxyHeader::State::malformed:
        return say(Action::close, peer, "bad PROXY header: " + std::string(header.reason));
      case ProxyHeader::State::whole:
        bytes.remove_prefix(header.size);
        reason = "the PROXY header names no client: it is the peer";
        if (!header.client.address) break;
        logical = header.client;
        trusted = trusts(ranges, logical.address);
        reason = "named by the PROXY header";
        break;
    }
  } else if (!rule.http) {
    return say(Action::passthrough, peer, "the peer is not in trustedOrigins: its bytes are not looked at");
  }
  return rule.http ? explain_http(settings, logical, trusted, bytes) : say(Action::accept, logical, reason);
}

namespace {

std::string_view name_of(Action action) {
  switch (action) {
    case Action::accept: return "accept";
    case Action::passthrough: return "passthrough";
    case Action::close: return "close";
    case Action::refuse: return "refuse";
  }
  return "";
}

}  // namespace

std::string inbound_text(const InboundExplanation& explanation) {
  char client[Endpoint::text_size];
  std::string out(name_of(explanation.action));
  if (explanation.action == Action::accept || explanation.action == Action::passthrough)
    out += ": client " + std::string(explanation.client.format(client));
  out += " (" + explanation.reason + ")\n";
  return explanation.has_head ? out + "\n" + explanation.forwarded_head : out;
}

std::string inbound_json(const InboundExplanation& explanation) {
  char client[IpAddress::text_size];
  std::string out = "{\"action\":" + json_text(name_of(explanation.action)) +
                    ",\"client\":" + json_text(explanation.client.address.format(client)) +
                    ",\"port\":" + std::to_string(explanation.client.port) +
                    ",\"reason\":" + json_text(explanation.reason);
  if (explanation.has_head) out += ",\"forwarded_head\":" + json_text(explanation.forwarded_head);
  return out + "}\n";
}

}  // namespace towpath
