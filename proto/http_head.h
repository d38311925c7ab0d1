// The strict reading of an HTTP/1 head (RFC 9112), for requests and responses: what two readers could understand in
// two ways is refused, with a reason. Lenient readers are how requests are smuggled past an intermediary.
//
// HttpScanner   bytes as they come: finds the end of a head (or of a trailer section) and refuses bad grammar at the
//               first byte that shows it. It never takes a byte past the end, and keeps none.
// HttpHead      a whole head: its parts as views, and the checks over several fields.
//
// Not decided here: what a field means to the owner, and which body follows (proto/http_body.h).
// Both heap free; an HttpHead is 6 KB and meant for the stack.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace towpath {

enum class HttpFlaw : std::uint8_t {
#define FLAW(name, status, text) name,
#include "proto/http_flaws.def"
#undef FLAW
};

[[nodiscard]] std::string_view name_of(HttpFlaw flaw) noexcept;
[[nodiscard]] std::string_view text_of(HttpFlaw flaw) noexcept;
// What a server answers: 400, 431, 501, 502, 505; 0 for none.
[[nodiscard]] std::uint16_t status_of(HttpFlaw flaw) noexcept;

enum class HttpKind : std::uint8_t { request, response, trailers };

class HttpScanner {
 public:
  static constexpr std::size_t longest_head = 65536;  // bytes, the blank line included
  static constexpr std::size_t longest_trailers = 16384;
  static constexpr std::size_t longest_method = 32;

  explicit HttpScanner(HttpKind kind) noexcept;

  // How many bytes of `in` belong to the head. Fewer than in.size(): complete(), or flaw().
  std::size_t feed(std::string_view in) noexcept;
  [[nodiscard]] bool complete() const noexcept { return state_ == State::complete; }
  [[nodiscard]] HttpFlaw flaw() const noexcept { return flaw_; }
  // Bytes taken so far.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  enum class State : std::uint8_t {
    method,         // RFC 9112 3: token SP
    target,         // RFC 9112 3.2
    version,        // RFC 9112 2.3, of either kind
    after_version,  // of a response: SP
    status,         // RFC 9112 4: three digits
    after_status,   // SP; without it the reason is missing
    reason,
    line_cr,     // CR of the start line or of a field was seen
    line_start,  // RFC 9112 5: a field, or the blank line
    name,
    value,
    blank_cr,  // CR of the blank line was seen
    complete,
    flawed,
  };

  void take(unsigned char c) noexcept;
  void take_method(unsigned char c) noexcept;
  void take_version(unsigned char c) noexcept;
  void take_text(unsigned char c) noexcept;
  void take_name(unsigned char c) noexcept;
  void fail(HttpFlaw flaw) noexcept;

  HttpKind kind_;
  State state_;
  HttpFlaw flaw_ = HttpFlaw::none;
  std::uint8_t matched_ = 0;  // of the version, of the status, of the method
  std::uint32_t size_ = 0;
};

struct HttpField {
  std::string_view name;   // as written
  std::string_view value;  // without blanks around it
};

class HttpHead {
 public:
  static constexpr std::size_t most_fields = 200;

  // `text` is a whole head as HttpScanner delimits it, and is borrowed for as long as the views are used.
  // None: what is below may be asked. Trailers have fields only.
  [[nodiscard]] HttpFlaw parse(HttpKind kind, std::string_view text) noexcept;

  [[nodiscard]] HttpKind kind() const noexcept { return kind_; }
  [[nodiscard]] std::string_view method() const noexcept { return method_; }  // of a request
  [[nodiscard]] std::string_view target() const noexcept { return target_; }
  [[nodiscard]] std::uint16_t status() const noexcept { return status_; }  // of a response
  [[nodiscard]] std::string_view reason() const noexcept { return reason_; }
  [[nodiscard]] bool is_1_1() const noexcept { return minor_ == 1; }
  [[nodiscard]] std::span<const HttpField> fields() const noexcept { return {fields_.data(), count_}; }

  // The first field of that name (compared without case), null when there is none.
  [[nodiscard]] const HttpField* find(std::string_view name) const noexcept;
  // Is `token` (compared without case) a member of the comma-separated list that all fields of that name are?
  [[nodiscard]] bool lists(std::string_view name, std::string_view token) const noexcept;

  [[nodiscard]] std::string_view host() const noexcept { return host_; }  // of a request; empty: none
  [[nodiscard]] std::optional<std::uint64_t> length() const noexcept { return length_; }
  [[nodiscard]] bool chunked() const noexcept { return chunked_; }
  // Does the sender keep the connection (RFC 9112 9.3)? The framing may forbid it all the same.
  [[nodiscard]] bool persists() const noexcept;

 private:
  [[nodiscard]] HttpFlaw read_start(std::string_view line) noexcept;
  [[nodiscard]] HttpFlaw read_field(std::string_view line) noexcept;
  [[nodiscard]] HttpFlaw judge(const HttpField& field) noexcept;
  [[nodiscard]] HttpFlaw judge_whole() const noexcept;

  HttpKind kind_ = HttpKind::request;
  std::string_view method_, target_, reason_, host_;
  std::optional<std::uint64_t> length_;
  std::size_t count_ = 0;
  std::uint16_t status_ = 0;
  std::uint8_t minor_ = 1;
  bool host_seen_ = false;
  bool chunked_ = false;
  std::array<HttpField, most_fields> fields_;
};

// Without case, ASCII only.
[[nodiscard]] bool same_word(std::string_view a, std::string_view b) noexcept;
// uri-host [":" port] (RFC 9110 7.2): a name, an IPv4 address or an IPv6 address in brackets.
[[nodiscard]] bool is_authority(std::string_view text) noexcept;
// The next member of a comma-separated list without blanks around it, and `rest` behind it; empty at the end.
[[nodiscard]] std::string_view next_member(std::string_view& rest) noexcept;

}  // namespace towpath
