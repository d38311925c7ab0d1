#include "agent/plain_edit.h"

#include <array>

#include "base/bytes.h"
#include "proto/ascii.h"
#include "proto/base64.h"

namespace towpath {

namespace {

constexpr std::string_view scheme = "http://";

bool is_one_of_words(std::string_view name, std::initializer_list<std::string_view> words) {
  for (const std::string_view each : words)
    if (same_word(name, each)) return true;
  return false;
}

// RFC 9110 7.6.1: what is said to the next hop only. A Connection that lists the framing or the host would make the
// next reader see another message: these stay whatever it says.
bool ends_here(const HttpHead& head, const HttpField& field) {
  if (is_one_of_words(field.name, {"connection", "proxy-connection", "keep-alive", "te", "upgrade", "http2-settings",
                                   "proxy-authorization", "proxy-authentication-info"}))
    return true;
  if (is_one_of_words(field.name, {"host", "content-length", "transfer-encoding", "trailer"})) return false;
  return head.lists("connection", field.name);
}

void write_field(std::string_view name, std::string_view value, std::string& out) {
  out.append(name).append(": ").append(value).append("\r\n");
}

// Without ":80" and a trailing dot, so that two spellings of one place are the same.
std::string_view bare(std::string_view authority) {
  if (authority.ends_with(":80")) authority.remove_suffix(3);
  else if (authority.ends_with(":")) authority.remove_suffix(1);
  if (authority.ends_with(".")) authority.remove_suffix(1);
  return authority;
}

// "http://authority" of an absolute-form target; empty for any other.
std::string_view origin_of(std::string_view target) {
  if (target.size() <= scheme.size() || !same_word(target.substr(0, scheme.size()), scheme)) return {};
  return target.substr(0, std::min(target.find_first_of("/?#", scheme.size()), target.size()));
}

}  // namespace

PlainEdit::PlainEdit(const TargetView& target, const ProxyLogin* login) : named_(!target.name.empty()) {
  char buffer[IpAddress::text_size];
  if (named_) authority_ = target.name;
  else if (target.address.is_v6()) authority_.append("[").append(target.address.format(buffer)).append("]");
  else authority_ = target.address.format(buffer);
  if (login == nullptr) return;
  const std::string plain = std::string(login->user).append(":").append(login->password);
  std::string coded(base64_size(plain.size()), '\0');
  ByteWriter writer(std::as_writable_bytes(std::span(coded)));
  put_base64(writer, plain);
  write_field("Proxy-Authorization", "Basic " + coded, authorization_);
}

bool PlainEdit::own(std::string_view authority) const { return same_word(bare(authority), bare(authority_)); }

// Only a name on port 80: an address in Host says nothing that the connect did not say.
std::string_view PlainEdit::authority_for(const HttpHead& request) const {
  const std::string_view host = bare(request.host());
  const bool name = !host.empty() && host.front() != '[' && host.find(':') == host.npos && !IpAddress::parse(host);
  return named_ || !name ? std::string_view(authority_) : host;
}

bool PlainEdit::host_differs(const HttpHead& request) const {
  return !request.host().empty() && !same_word(bare(request.host()), bare(authority_for(request)));
}

PlainEdit::Way PlainEdit::way_of(const HttpHead& request) const {
  if (request.method() == "CONNECT") return Way::tunnel;
  const std::string_view target = request.target();
  if (target.front() != '/' && !(target == "*" && request.method() == "OPTIONS")) {
    const std::string_view origin = origin_of(target);
    if (origin.empty()) return Way::refuse;
    const std::string_view authority = origin.substr(scheme.size());
    if (!own(authority) && !same_word(bare(authority), bare(authority_for(request)))) return Way::refuse;
  }
  // HTTP/2 in the clear is an offer that nobody has to take.
  if (!HttpAsked::of(request).upgrade || request.lists("upgrade", "h2c")) return Way::forward;
  return Way::upgrade;
}

void PlainEdit::write_request(const HttpHead& request, std::string& out) const {
  std::string_view path = request.target();
  if (path == "*") path = {};  // RFC 9112 3.2.4: the last proxy makes it "*" again
  else if (path.front() != '/') path.remove_prefix(origin_of(path).size());
  out.append(request.method()).append(" ").append(scheme).append(authority_for(request)).append(path);
  out.append(request.is_1_1() ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
  for (const HttpField& each : request.fields())
    if (!ends_here(request, each)) write_field(each.name, each.value, out);
  out.append(authorization_);
  // Each side's persistence is its own; what the program wants of its side decides here as well, since nothing would
  // follow on the other.
  if (!request.persists()) write_field("Connection", "close", out);
  else if (!request.is_1_1()) write_field("Connection", "keep-alive", out);
  out.append("\r\n");
}

void PlainEdit::write_response(const HttpHead& response, bool request_1_1, bool stays, std::string& out) const {
  out.append(response.is_1_1() ? "HTTP/1.1 " : "HTTP/1.0 ").append(std::to_string(response.status())).append(" ");
  out.append(response.reason()).append("\r\n");
  const bool wants_upgrade = response.status() == 426;  // RFC 9110 15.5.22: says to which protocols
  for (const HttpField& each : response.fields())
    if (!ends_here(response, each) || (wants_upgrade && same_word(each.name, "upgrade")))
      write_field(each.name, each.value, out);
  if (!is_interim(response.status())) {
    if (!stays) write_field("Connection", "close", out);
    else if (!request_1_1 || !response.is_1_1()) write_field("Connection", "keep-alive", out);
  }
  out.append("\r\n");
}

void PlainEdit::write_trailers(const HttpHead& trailers, std::string& out) const {
  for (const HttpField& each : trailers.fields())
    if (!ends_here(trailers, each)) write_field(each.name, each.value, out);
  out.append("\r\n");
}

}  // namespace towpath
