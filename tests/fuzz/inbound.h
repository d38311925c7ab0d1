// The promises of proto/proxy_header.h, proto/forwarded.h and agent/inbound_head.h over any bytes.
#pragma once

#include <string_view>

#include "agent/inbound_head.h"
#include "proto/proxy_header.h"

namespace towpath::testing {

inline bool same(const ProxyHeader& a, const ProxyHeader& b) {
  return a.state == b.state && a.size == b.size && a.client == b.client && a.reason == b.reason;
}

inline const char* broken_header_promise(std::string_view text) {
  const auto read = [&](std::size_t size) {
    return read_proxy_header({reinterpret_cast<const std::byte*>(text.data()), size});
  };
  const ProxyHeader whole = read(text.size());
  if (whole.size > text.size()) return "consumes more than there is";
  if (whole.size != 0 && whole.state != ProxyHeader::State::whole) return "consumes what is no header";
  if (whole.state == ProxyHeader::State::incomplete && text.size() >= ProxyHeader::longest)
    return "waits without an end";
  bool decided = false;
  for (std::size_t size = 0; size < text.size(); ++size) {
    const ProxyHeader part = read(size);
    if (part.state == ProxyHeader::State::incomplete) {
      if (decided) return "waits again";
      continue;
    }
    decided = true;
    if (!same(part, whole)) return "changes its mind";
  }
  return nullptr;
}

// However a stranger words it, the program is not told of any other client than the peer.
inline const char* broken_head_promise(std::string_view text) {
  HttpScanner scanner(HttpKind::request);
  const std::string_view head_text = text.substr(0, scanner.feed(text));
  HttpHead head;
  if (!scanner.complete() || head.parse(HttpKind::request, head_text) != HttpFlaw::none) return nullptr;
  const std::string headers[] = {"X-Forwarded-For", "Forwarded", "X-Real-IP"};
  const AddressRange ranges[] = {{IpAddress::v4(0x0a000000), 8}};
  const Endpoint peer{IpAddress::v4(0x0a000001), 1};
  for (const bool trusted : {false, true}) {
    const InboundRequest out = edit_request(head, {peer, trusted, headers, ranges});
    HttpScanner again(HttpKind::request);
    if (again.feed(out.text) != out.text.size() || !again.complete()) return "the edited head is none";
    HttpHead edited;
    if (edited.parse(HttpKind::request, out.text) != HttpFlaw::none) return "the edited head has a flaw";
    if (edited.length() != head.length() || edited.chunked() != head.chunked()) return "another body";
    if (!out.client.address) return "no client";
    if (!trusted && !(out.client == peer)) return "a stranger chose its address";
    std::size_t named = 0;
    for (const HttpField& field : edited.fields())
      if (is_client_header(field.name, headers) && !is_forwarding_detail(field.name)) ++named;
    if (named > (out.header.empty() ? 0u : 1u)) return "a field names somebody";
    if (trusted && named == 1) {
      const ForwardedClient found = find_client(edited.fields(), peer, headers, ranges);
      if (!(found.client.address == out.client.address)) return "the line names another client";
    }
  }
  return nullptr;
}

inline const char* broken_inbound_promise(std::string_view text) {
  if (const char* broken = broken_header_promise(text)) return broken;
  return broken_head_promise(text);
}

}  // namespace towpath::testing
