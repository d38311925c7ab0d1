// Who the client of an HTTP request is, by the headers that a chain of proxies left on it, and which header fields say
// so.
//
// X-Forwarded-For and Forwarded (RFC 7239) are lists: all lines joined, read from the right, over hops that are
// trusted; the first one that is not is the client. What cannot be read ends the walk at the last hop that was
// verified. Any other header holds one address in its first line, and the same walk is made inside that line.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/address_range.h"
#include "proto/http_head.h"

namespace towpath {

inline constexpr std::size_t most_forwarded_elements = 20;  // of one header; with more it is not used at all

struct ForwardedClient {
  Endpoint client;          // port 0 where none was given; a zone is dropped
  std::string_view header;  // of those asked for, the one that named the client; "" when none did: it is the peer
};

// `headers` are asked in their order; `peer` must be trusted already, else this is not for it.
[[nodiscard]] ForwardedClient find_client(std::span<const HttpField> fields, const Endpoint& peer,
                                          std::span<const std::string> headers, TrustedRanges trusted);

// Equal without case, and with '_' as good as '-': CGI, WSGI and others make the same variable of both.
[[nodiscard]] bool same_header(std::string_view a, std::string_view b) noexcept;

// Does this field say who the client is, or how he came? `headers` are the configured ones, beside the usual ones.
[[nodiscard]] bool is_client_header(std::string_view name, std::span<const std::string> headers) noexcept;

// X-Forwarded-Proto, -Host, -Port, -Prefix, -Server: what a trusted proxy says of the request beside its client.
[[nodiscard]] bool is_forwarding_detail(std::string_view name) noexcept;

// The client as it stands in that header: "192.0.2.1", "[2001:db8::1]" for Forwarded inside its quotes, and so on.
[[nodiscard]] std::string client_field_value(std::string_view header, const IpAddress& client);

}  // namespace towpath
