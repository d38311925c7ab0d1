#include "proto/forwarded.h"

#include "proto/ascii.h"

namespace towpath {

namespace {

constexpr std::string_view usual[] = {"X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP",
                                      "True-Client-IP"};
constexpr std::string_view details[] = {"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
                                        "X-Forwarded-Prefix", "X-Forwarded-Server"};

bool same_name(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (to_lower(a[i]) != to_lower(b[i])) return false;
  return true;
}

std::string_view trimmed(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// RFC 7239 6: an obfuscated port is "_" and more; it is none that anybody can use.
bool parse_port(std::string_view text, bool obfuscated_allowed, std::uint16_t& out) noexcept {
  out = 0;
  if (obfuscated_allowed && text.size() > 1 && text[0] == '_') {
    for (const char c : text.substr(1))
      if (!is_token_char(c)) return false;
    return true;
  }
  if (text.empty() || text.size() > 5 || text[0] == '0') return false;
  std::uint32_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return false;
    value = value * 10 + static_cast<std::uint32_t>(c - '0');
  }
  out = static_cast<std::uint16_t>(value);
  return value <= 65535;
}

// One hop: an address, in brackets or not, with a port or not. No address when it is anything else.
Endpoint parse_node(std::string_view text, bool obfuscated_ports) noexcept {
  Endpoint out;
  if (!text.empty() && text[0] == '[') {
    const std::size_t end = text.find(']');
    if (end == text.npos || text.substr(1, end - 1).find(':') == text.npos) return {};
    const std::string_view rest = text.substr(end + 1);
    out.address = IpAddress::parse(text.substr(1, end - 1));
    if (!rest.empty() && (rest[0] != ':' || !parse_port(rest.substr(1), obfuscated_ports, out.port))) return {};
  } else {
    const std::size_t colon = text.find(':');
    const bool v4_with_port = colon != text.npos && text.find(':', colon + 1) == text.npos;
    out.address = IpAddress::parse(v4_with_port ? text.substr(0, colon) : text);
    if (v4_with_port && !parse_port(text.substr(colon + 1), obfuscated_ports, out.port)) return {};
  }
  return is_no_client(out.address) ? Endpoint{} : out;
}

// The hops of one header, in the order in which they were written.
class Hops {
 public:
  void add(const Endpoint& hop) noexcept {
    if (count_ < most_forwarded_elements) hops_[count_] = hop;
    ++count_;
  }
  // No address: the header does not say.
  [[nodiscard]] Endpoint client(TrustedRanges trusted) const noexcept {
    Endpoint verified;
    if (count_ > most_forwarded_elements) return verified;
    for (std::size_t i = count_; i-- > 0;) {
      if (!hops_[i].address) break;
      verified = hops_[i];
      if (!trusts(trusted, verified.address)) break;
    }
    return verified;
  }

 private:
  Endpoint hops_[most_forwarded_elements];
  std::size_t count_ = 0;
};

// RFC 9110 5.6.1.2: empty elements do not count.
void add_list(std::string_view line, Hops& hops) noexcept {
  for (;;) {
    const std::size_t comma = line.find(',');
    const std::string_view element = trimmed(line.substr(0, comma));
    if (!element.empty()) hops.add(parse_node(element, false));
    if (comma == line.npos) return;
    line.remove_prefix(comma + 1);
  }
}

// One line of Forwarded (RFC 7239 4). A quoted string cannot go on in the next line, so each is read by itself: the
// line that the nearest proxy wrote is not spoilt by one that came before it.
class ForwardedLine {
 public:
  explicit ForwardedLine(std::string_view line) noexcept : rest_(line) {}

  void add_to(Hops& hops) {
    bool more = true;
    while (more) {
      skip_blanks();
      if (rest_.empty()) return;
      if (rest_[0] == ',') {
        rest_.remove_prefix(1);
        continue;
      }
      Endpoint hop;
      if (!element(hop)) {
        // No telling where the next element begins.
        hops.add({});
        return;
      }
      hops.add(hop);
      more = !rest_.empty();
      if (more) rest_.remove_prefix(1);  // the comma
    }
  }

 private:
  void skip_blanks() noexcept {
    while (!rest_.empty() && is_blank(rest_[0])) rest_.remove_prefix(1);
  }

  // Pairs up to a comma or the end. An element without `for` names nobody; one with a parameter twice is none.
  bool element(Endpoint& hop) {
    std::string_view seen[8];
    std::size_t count = 0;
    for (;;) {
      skip_blanks();
      std::string_view name;
      std::string value;
      if (!pair(name, value)) return false;
      for (std::size_t i = 0; i < count; ++i)
        if (same_name(seen[i], name)) return false;
      if (count == std::size(seen)) return false;
      seen[count++] = name;
      if (same_name(name, "for")) hop = parse_node(value, true);
      skip_blanks();
      if (rest_.empty() || rest_[0] == ',') return true;
      if (rest_[0] != ';') return false;
      rest_.remove_prefix(1);
    }
  }

  bool pair(std::string_view& name, std::string& value) {
    std::size_t size = 0;
    while (size < rest_.size() && is_token_char(rest_[size])) ++size;
    if (size == 0 || size == rest_.size() || rest_[size] != '=') return false;
    name = rest_.substr(0, size);
    rest_.remove_prefix(size + 1);
    if (!rest_.empty() && rest_[0] == '"') return quoted(value);
    // Brackets and colons should be quoted; many senders do not.
    size = 0;
    while (size < rest_.size() && (is_token_char(rest_[size]) || is_one_of(rest_[size], "[]:"))) ++size;
    value = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return size != 0;
  }

  bool quoted(std::string& value) {
    rest_.remove_prefix(1);
    while (!rest_.empty() && rest_[0] != '"') {
      if (rest_[0] == '\\') rest_.remove_prefix(1);
      if (rest_.empty()) return false;
      value += rest_[0];
      rest_.remove_prefix(1);
    }
    if (rest_.empty()) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::string_view rest_;
};

Endpoint client_of(std::span<const HttpField> fields, std::string_view header, TrustedRanges trusted) {
  const bool forwarded = same_name(header, "Forwarded"), list = same_name(header, "X-Forwarded-For");
  Hops hops;
  for (const HttpField& field : fields) {
    if (!same_name(field.name, header)) continue;
    if (forwarded) ForwardedLine(field.value).add_to(hops);
    else add_list(field.value, hops);
    if (!forwarded && !list) break;
  }
  return hops.client(trusted);
}

}  // namespace

ForwardedClient find_client(std::span<const HttpField> fields, const Endpoint& peer,
                            std::span<const std::string> headers, TrustedRanges trusted) {
  for (const std::string& header : headers)
    if (const Endpoint client = client_of(fields, header, trusted); client.address) return {client, header};
  return {peer, {}};
}

bool same_header(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  const auto folded = [](char c) { return c == '_' ? '-' : to_lower(c); };
  for (std::size_t i = 0; i < a.size(); ++i)
    if (folded(a[i]) != folded(b[i])) return false;
  return true;
}

bool is_forwarding_detail(std::string_view name) noexcept {
  for (const std::string_view each : details)
    if (same_header(name, each)) return true;
  return false;
}

bool is_client_header(std::string_view name, std::span<const std::string> headers) noexcept {
  for (const std::string_view each : usual)
    if (same_header(name, each)) return true;
  for (const std::string& each : headers)
    if (same_header(name, each)) return true;
  return is_forwarding_detail(name);
}

std::string client_field_value(std::string_view header, const IpAddress& client) {
  char room[IpAddress::text_size];
  const std::string text(client.format(room));
  if (!same_name(header, "Forwarded")) return text;
  return client.is_v6() ? "for=\"[" + text + "]\"" : "for=" + text;
}

}  // namespace towpath
