#include "proto/http_head.h"

#include "proto/ascii.h"

namespace towpath {

namespace {

enum : std::uint8_t { token = 1, target_byte = 2, text_byte = 4 };

// Bytes from 0x80 up are let through in targets and values: programs send UTF-8 there, and everybody reads them alike.
constexpr std::array<std::uint8_t, 256> make_classes() noexcept {
  std::array<std::uint8_t, 256> out{};
  for (unsigned c = 0; c < 256; ++c) {
    const char each = static_cast<char>(c);
    std::uint8_t bits = 0;
    if (c < 128 && is_token_char(each)) bits |= token;
    if ((c > 0x20 && c < 0x7f) || c >= 0x80) bits |= target_byte;
    if ((c >= 0x20 && c != 0x7f) || c == '\t') bits |= text_byte;
    out[c] = bits;
  }
  return out;
}

constexpr std::array<std::uint8_t, 256> classes = make_classes();
constexpr std::string_view version_text = "HTTP/1.";

constexpr bool is(std::uint8_t bits, unsigned char c) noexcept { return (classes[c] & bits) != 0; }

std::string_view trimmed(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// RFC 9110 8.6; nothing but digits, and below 2^63 so that nobody's arithmetic overflows.
std::optional<std::uint64_t> number(std::string_view text) noexcept {
  if (text.empty() || text.size() > 18) return std::nullopt;
  std::uint64_t out = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    out = out * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return out;
}

}  // namespace

std::string_view name_of(HttpFlaw flaw) noexcept {
  switch (flaw) {
#define FLAW(name, status, text) \
  case HttpFlaw::name:           \
    return #name;
#include "proto/http_flaws.def"
#undef FLAW
  }
  return {};
}

std::string_view text_of(HttpFlaw flaw) noexcept {
  switch (flaw) {
#define FLAW(name, status, text) \
  case HttpFlaw::name:           \
    return text;
#include "proto/http_flaws.def"
#undef FLAW
  }
  return {};
}

std::uint16_t status_of(HttpFlaw flaw) noexcept {
  switch (flaw) {
#define FLAW(name, status, text) \
  case HttpFlaw::name:           \
    return status;
#include "proto/http_flaws.def"
#undef FLAW
  }
  return 0;
}

bool same_word(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (to_lower(a[i]) != to_lower(b[i])) return false;
  return true;
}

bool is_authority(std::string_view text) noexcept {
  std::size_t at = 0;
  if (!text.empty() && text[0] == '[') {
    for (at = 1; at < text.size() && text[at] != ']'; ++at)
      if (!is_one_of(to_lower(text[at]), "0123456789abcdef:.")) return false;
    if (at < 3 || at == text.size()) return false;
    ++at;
  } else {
    // Unreserved characters and percent-encoding: no userinfo, no path, no list.
    while (at < text.size() &&
           (is(token, static_cast<unsigned char>(text[at])) && !is_one_of(text[at], "#^`|\"'*+&!$")))
      ++at;
    if (at == 0) return false;
  }
  if (at == text.size()) return true;
  if (text[at] != ':') return false;
  std::uint32_t port = 0;
  for (++at; at < text.size(); ++at) {
    if (!is_digit(text[at])) return false;
    port = port * 10 + static_cast<std::uint32_t>(text[at] - '0');
    if (port > 65535) return false;
  }
  return true;
}

std::string_view next_member(std::string_view& rest) noexcept {
  while (!rest.empty()) {
    std::size_t end = 0;
    while (end < rest.size() && rest[end] != ',') ++end;
    const std::string_view member = trimmed({rest.data(), end});
    rest.remove_prefix(end < rest.size() ? end + 1 : end);
    if (!member.empty()) return member;
  }
  return {};
}

HttpScanner::HttpScanner(HttpKind kind) noexcept
    : kind_(kind),
      state_(kind == HttpKind::request    ? State::method
             : kind == HttpKind::response ? State::version
                                          : State::line_start) {}

void HttpScanner::fail(HttpFlaw flaw) noexcept {
  flaw_ = flaw;
  state_ = State::flawed;
}

std::size_t HttpScanner::feed(std::string_view in) noexcept {
  const std::size_t limit = kind_ == HttpKind::trailers ? longest_trailers : longest_head;
  std::size_t used = 0;
  while (used < in.size() && state_ != State::complete && state_ != State::flawed) {
    if (size_ == limit) {
      fail(kind_ == HttpKind::trailers ? HttpFlaw::trailers_too_long : HttpFlaw::head_too_long);
      break;
    }
    take(static_cast<unsigned char>(in[used]));
    // The byte that shows a flaw is not part of anything.
    if (state_ == State::flawed) break;
    ++used;
    ++size_;
  }
  return used;
}

void HttpScanner::take(unsigned char c) noexcept {
  switch (state_) {
    case State::method: return take_method(c);
    case State::target:
      if (is(target_byte, c)) matched_ = 1;
      else if (c == ' ' && matched_ == 1) {
        matched_ = 0;
        state_ = State::version;
      } else fail(c == '\r' || c == '\n' ? HttpFlaw::no_version : HttpFlaw::bad_target);
      return;
    case State::version: return take_version(c);
    case State::after_version:
      matched_ = 0;
      state_ = State::status;
      if (c != ' ') fail(HttpFlaw::bad_version);
      return;
    case State::status:
      if (!is_digit(static_cast<char>(c)) || (matched_ == 0 && c == '0')) return fail(HttpFlaw::bad_status);
      if (++matched_ == 3) state_ = State::after_status;
      return;
    case State::after_status:
      if (c == ' ') state_ = State::reason;
      else if (c == '\r') state_ = State::line_cr;
      else fail(HttpFlaw::bad_status);
      return;
    case State::reason:
    case State::value: return take_text(c);
    case State::line_cr:
      state_ = State::line_start;
      if (c != '\n') fail(HttpFlaw::bare_cr);
      return;
    case State::line_start:
    case State::name: return take_name(c);
    case State::blank_cr:
      state_ = State::complete;
      if (c != '\n') fail(HttpFlaw::bare_cr);
      return;
    case State::complete:
    case State::flawed: return;
  }
}

void HttpScanner::take_method(unsigned char c) noexcept {
  if (is(token, c)) {
    if (++matched_ > longest_method) fail(HttpFlaw::not_http);
    return;
  }
  if (matched_ == 0 && (c == '\r' || c == '\n')) return fail(HttpFlaw::blank_start);
  if (matched_ == 0 && c == 0x16) return fail(HttpFlaw::looks_like_tls);
  if (matched_ == 0 || c != ' ') return fail(HttpFlaw::not_http);
  matched_ = 0;
  state_ = State::target;
}

void HttpScanner::take_version(unsigned char c) noexcept {
  if (matched_ == 0 && kind_ == HttpKind::response && (c == '\r' || c == '\n')) return fail(HttpFlaw::blank_start);
  if (matched_ < version_text.size()) {
    const bool fits = c == static_cast<unsigned char>(version_text[matched_]);
    if (!fits && matched_ < 5) return fail(HttpFlaw::not_http);
    if (!fits) return fail(matched_ == 5 && c == '2' ? HttpFlaw::http2 : HttpFlaw::bad_version);
    ++matched_;
  } else if (matched_ == version_text.size()) {
    if (c != '0' && c != '1') return fail(HttpFlaw::bad_version);
    if (kind_ == HttpKind::response) state_ = State::after_version;
    else ++matched_;
  } else if (c == '\r') {
    state_ = State::line_cr;
  } else {
    fail(c == '\n' ? HttpFlaw::bare_lf : HttpFlaw::bad_version);
  }
}

void HttpScanner::take_text(unsigned char c) noexcept {
  if (is(text_byte, c)) return;
  if (c == '\r') state_ = State::line_cr;
  else fail(c == '\n' ? HttpFlaw::bare_lf : HttpFlaw::bad_character);
}

void HttpScanner::take_name(unsigned char c) noexcept {
  if (is(token, c)) {
    state_ = State::name;
  } else if (state_ == State::name) {
    if (c == ':') state_ = State::value;
    else fail(c == ' ' || c == '\t' ? HttpFlaw::blank_before_colon : HttpFlaw::bad_field_name);
  } else if (c == '\r') {
    state_ = State::blank_cr;
  } else if (c == '\n') {
    fail(HttpFlaw::bare_lf);
  } else {
    fail(c == ' ' || c == '\t' ? HttpFlaw::folded_line : HttpFlaw::bad_field_name);
  }
}

HttpFlaw HttpHead::parse(HttpKind kind, std::string_view text) noexcept {
  HttpScanner scanner(kind);
  if (scanner.feed(text) != text.size() || !scanner.complete())
    return scanner.flaw() != HttpFlaw::none ? scanner.flaw() : HttpFlaw::truncated;
  kind_ = kind;
  method_ = target_ = reason_ = host_ = {};
  length_.reset();
  count_ = status_ = 0;
  minor_ = 1;
  host_seen_ = chunked_ = false;
  bool start = kind != HttpKind::trailers;
  // The grammar holds from here on: every line ends with CRLF, the last one is empty.
  while (text.size() > 2) {
    std::size_t end = 0;
    while (text[end] != '\r') ++end;
    const std::string_view line{text.data(), end};
    text.remove_prefix(end + 2);
    const HttpFlaw flaw = start ? read_start(line) : read_field(line);
    if (flaw != HttpFlaw::none) return flaw;
    start = false;
  }
  return judge_whole();
}

HttpFlaw HttpHead::read_start(std::string_view line) noexcept {
  if (kind_ == HttpKind::response) {
    minor_ = line[7] == '1' ? 1 : 0;
    status_ = static_cast<std::uint16_t>((line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0'));
    reason_ = line.size() > 13 ? std::string_view{line.data() + 13, line.size() - 13} : std::string_view{};
    return HttpFlaw::none;
  }
  std::size_t blank = 0;
  while (line[blank] != ' ') ++blank;
  method_ = {line.data(), blank};
  target_ = {line.data() + blank + 1, line.size() - blank - 1 - 9};  // without " HTTP/1.x"
  minor_ = line.back() == '1' ? 1 : 0;
  return HttpFlaw::none;
}

HttpFlaw HttpHead::read_field(std::string_view line) noexcept {
  if (count_ == most_fields) return HttpFlaw::too_many_fields;
  std::size_t colon = 0;
  while (line[colon] != ':') ++colon;
  HttpField& field = fields_[count_++];
  field.name = {line.data(), colon};
  field.value = trimmed({line.data() + colon + 1, line.size() - colon - 1});
  return judge(field);
}

HttpFlaw HttpHead::judge(const HttpField& field) noexcept {
  const bool length = same_word(field.name, "content-length"), coding = same_word(field.name, "transfer-encoding");
  const bool host = same_word(field.name, "host");
  if (kind_ == HttpKind::trailers) return length || coding || host ? HttpFlaw::bad_trailer : HttpFlaw::none;
  if (length) {
    if (length_) return HttpFlaw::repeated_length;
    length_ = number(field.value);
    if (!length_) return HttpFlaw::bad_length;
  }
  if (coding) {
    if (chunked_ || !same_word(field.value, "chunked")) return HttpFlaw::bad_coding;
    chunked_ = true;
  }
  if (host && kind_ == HttpKind::request) {
    if (host_seen_) return HttpFlaw::repeated_host;
    host_seen_ = true;
    host_ = field.value;
    // RFC 9112 3.2: empty when the target has no authority.
    if (!host_.empty() && !is_authority(host_)) return HttpFlaw::bad_host;
  }
  return HttpFlaw::none;
}

HttpFlaw HttpHead::judge_whole() const noexcept {
  if (kind_ == HttpKind::trailers) return HttpFlaw::none;
  if (kind_ == HttpKind::request && minor_ == 1 && !host_seen_) return HttpFlaw::no_host;
  if (length_ && chunked_) return HttpFlaw::length_and_coding;
  if (chunked_ && minor_ == 0) return HttpFlaw::coding_in_1_0;
  return HttpFlaw::none;
}

const HttpField* HttpHead::find(std::string_view name) const noexcept {
  for (const HttpField& each : fields())
    if (same_word(each.name, name)) return &each;
  return nullptr;
}

bool HttpHead::lists(std::string_view name, std::string_view word) const noexcept {
  for (const HttpField& each : fields()) {
    if (!same_word(each.name, name)) continue;
    std::string_view rest = each.value;
    for (std::string_view member = next_member(rest); !member.empty(); member = next_member(rest))
      if (same_word(member, word)) return true;
  }
  return false;
}

bool HttpHead::persists() const noexcept {
  if (lists("connection", "close")) return false;
  return is_1_1() || lists("connection", "keep-alive");
}

}  // namespace towpath
