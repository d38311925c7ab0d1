// What a request head, and its trailers, become on their way to the program: who the client is, and nothing in the
// fields that says otherwise. Pure functions.
//
//   peer not trusted   the client is the peer; every field that could name another one is removed
//   peer trusted       the client is found by the configured headers; one line names him, under the header that did.
//                      X-Forwarded-Proto and its like stay when X-Forwarded-For is configured.
//
// Always: Connection cannot name such a field (a recipient would drop it), and Upgrade: h2c is gone (behind it there
// would be requests that nobody edits).
#pragma once

#include <string>

#include "proto/forwarded.h"

namespace towpath {

struct InboundTrust {
  Endpoint peer;  // who connected; behind a PROXY header: whom that named
  bool trusted = false;
  std::span<const std::string> headers;
  TrustedRanges ranges;
};

struct InboundRequest {
  Endpoint client;
  std::string_view header;  // that named him; "" for the peer
  bool upgrades = false;    // asks for another protocol
  std::string text;         // the head that the program gets
};

[[nodiscard]] InboundRequest edit_request(const HttpHead& head, const InboundTrust& trust);
// A trailer section, with the blank line that ends it.
[[nodiscard]] std::string edit_trailers(const HttpHead& trailers, const InboundTrust& trust);
// A response passes as it is.
[[nodiscard]] std::string response_text(const HttpHead& head);

}  // namespace towpath
