#include "agent/inbound_head.h"

namespace towpath {

namespace {

void put(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

bool stays(std::string_view name, const InboundTrust& trust) {
  if (!is_client_header(name, trust.headers)) return true;
  if (!trust.trusted || !is_forwarding_detail(name) || name.find('_') != name.npos) return false;
  for (const std::string& each : trust.headers)
    if (same_header(each, "X-Forwarded-For")) return true;
  return false;
}

// A comma list without the members that `drop` names; how many are left.
template <class Drop>
std::size_t filtered(std::string_view list, std::string& out, Drop drop) {
  std::size_t left = 0;
  for (std::string_view member = next_member(list); !member.empty(); member = next_member(list)) {
    if (drop(member)) continue;
    if (left++ != 0) out += ", ";
    out += member;
  }
  return left;
}

bool is_h2c(std::string_view protocol) {
  // "h2c", and whatever hides it: "h2c/1", "h2", "HTTP/2.0" (RFC 9110 7.8: name ["/" version]).
  const std::string_view name = protocol.substr(0, protocol.find('/'));
  return same_word(name, "h2c") || same_word(name, "h2") || (same_word(name, "HTTP") && protocol.size() > 4);
}

}  // namespace

InboundRequest edit_request(const HttpHead& head, const InboundTrust& trust) {
  InboundRequest out;
  out.client = trust.peer;
  if (trust.trusted) {
    const ForwardedClient found = find_client(head.fields(), trust.peer, trust.headers, trust.ranges);
    out.client = found.client;
    out.header = found.header;
  }
  std::string upgrade;
  bool asks_upgrade = false;
  for (const HttpField& field : head.fields()) {
    if (!same_word(field.name, "Upgrade")) continue;
    asks_upgrade = true;
    std::string kept;
    if (filtered(field.value, kept, is_h2c) != 0) upgrade += (upgrade.empty() ? "" : ", ") + kept;
  }
  out.upgrades = !upgrade.empty();
  const bool no_upgrade = asks_upgrade && upgrade.empty();

  std::string& text = out.text;
  text.reserve(1024);
  text.append(head.method())
      .append(" ")
      .append(head.target())
      .append(head.is_1_1() ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
  bool named = false;
  for (const HttpField& field : head.fields()) {
    if (!stays(field.name, trust)) {
      // Where the field stood that named the client, his one line stands.
      if (!named && !out.header.empty() && same_word(field.name, out.header)) {
        put(text, field.name, client_field_value(out.header, out.client.address));
        named = true;
      }
      continue;
    }
    if (same_word(field.name, "HTTP2-Settings") || same_word(field.name, "Upgrade")) continue;
    if (same_word(field.name, "Connection")) {
      std::string kept;
      const auto drop = [&](std::string_view member) {
        return is_client_header(member, trust.headers) || same_word(member, "HTTP2-Settings") ||
               (no_upgrade && same_word(member, "upgrade"));
      };
      if (filtered(field.value, kept, drop) != 0) put(text, field.name, kept);
      continue;
    }
    put(text, field.name, field.value);
  }
  if (!upgrade.empty()) put(text, "Upgrade", upgrade);
  text += "\r\n";
  return out;
}

std::string edit_trailers(const HttpHead& trailers, const InboundTrust& trust) {
  std::string out;
  // Of nobody's trailers: who the client is was decided with the head.
  for (const HttpField& field : trailers.fields())
    if (!is_client_header(field.name, trust.headers)) put(out, field.name, field.value);
  return out + "\r\n";
}

std::string response_text(const HttpHead& head) {
  std::string out;
  out.reserve(512);
  out.append(head.is_1_1() ? "HTTP/1.1 " : "HTTP/1.0 ").append(std::to_string(head.status())).append(" ");
  out.append(head.reason()).append("\r\n");
  for (const HttpField& field : head.fields()) put(out, field.name, field.value);
  return out + "\r\n";
}

}  // namespace towpath
