#include "proto/dns_message.h"

#include <cstring>

#include "proto/ascii.h"

namespace towpath::dns {

namespace {

constexpr std::uint16_t flag_response = 0x8000, flag_truncated = 0x0200, flag_recursion_desired = 0x0100,
                        flag_recursion_available = 0x0080, flag_checking_disabled = 0x0010, mask_opcode = 0x7800,
                        mask_rcode = 0x000f;
constexpr std::size_t opt_size = 11;
constexpr std::uint16_t most_additional = 16;  // records of a query that are looked at
constexpr std::uint16_t name_of_question = 0xc000 | header_size;

std::uint8_t byte_at(std::span<const std::byte> in, std::size_t at) noexcept {
  return static_cast<std::uint8_t>(in[at]);
}

std::uint16_t word_at(std::span<const std::byte> in, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(byte_at(in, at) << 8 | byte_at(in, at + 1));
}

// Behind the name that begins at `at`, 0 when it is malformed. Pointers are not followed: a skipped name needs no text.
std::size_t skip_name(std::span<const std::byte> in, std::size_t at, bool pointers_allowed) noexcept {
  const std::size_t begin = at;
  while (at < in.size()) {
    const std::uint8_t size = byte_at(in, at);
    if (size == 0) return at + 1 - begin > max_name_wire ? 0 : at + 1;
    if ((size & 0xc0) == 0xc0) return pointers_allowed && at + 2 <= in.size() ? at + 2 : 0;
    if ((size & 0xc0) != 0) return 0;
    at += std::size_t{1} + size;
  }
  return 0;
}

struct Record {
  std::uint16_t type, klass;
  std::size_t data, data_size;
};

// Behind the record that begins at `at`, 0 when it is malformed.
std::size_t read_record(std::span<const std::byte> in, std::size_t at, Record& out) noexcept {
  at = skip_name(in, at, true);
  if (at == 0 || in.size() - at < 10) return 0;
  out.type = word_at(in, at);
  out.klass = word_at(in, at + 2);
  out.data_size = word_at(in, at + 8);
  out.data = at + 10;
  return in.size() - out.data < out.data_size ? 0 : out.data + out.data_size;
}

// The text of the uncompressed name in `out.wire`.
void spell(Question& out) noexcept {
  std::size_t used = 0;
  bool plain = true;
  for (std::size_t at = 0; out.wire[at] != 0;) {
    const std::size_t size = out.wire[at++];
    if (used != 0) out.name[used++] = '.';
    for (std::size_t end = at + size; at < end; ++at) {
      const char c = static_cast<char>(out.wire[at]);
      if (!is_graphic(c) || c == '.' || c == '\\') plain = false;
      out.name[used++] = to_lower(c);
    }
  }
  out.named = plain && used != 0;
  if (!out.named) used = 0;
  out.name[used] = '\0';
  out.name_size = static_cast<std::uint8_t>(used);
}

bool same_question(std::span<const std::byte> in, const Question& question) noexcept {
  if (in.size() - header_size < question.wire_size) return false;
  // Lengths are below 'A', so that folding the case of the whole section folds the labels only; type and class are
  // compared as they are.
  const std::size_t name = question.wire_size - std::size_t{4};
  for (std::size_t i = 0; i < question.wire_size; ++i) {
    const char a = static_cast<char>(in[header_size + i]), b = static_cast<char>(question.wire[i]);
    if (i < name ? to_lower(a) != to_lower(b) : a != b) return false;
  }
  return true;
}

int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool ends_with(std::string_view text, std::string_view end) noexcept {
  return text.size() >= end.size() && std::memcmp(text.data() + text.size() - end.size(), end.data(), end.size()) == 0;
}

IpAddress reverse_v4(std::string_view labels) noexcept {
  std::uint32_t number = 0;
  for (unsigned i = 0; i < 4; ++i) {
    std::uint32_t octet = 0;
    std::size_t digits = 0;
    while (digits < labels.size() && is_digit(labels[digits]) && digits < 4)
      octet = octet * 10 + static_cast<std::uint32_t>(labels[digits++] - '0');
    if (digits == 0 || digits > 3 || octet > 255 || (digits > 1 && labels[0] == '0')) return {};
    number |= octet << (8 * i);
    labels = {labels.data() + digits, labels.size() - digits};
    if (i == 3) break;
    if (labels.empty() || labels[0] != '.') return {};
    labels = {labels.data() + 1, labels.size() - 1};
  }
  return labels.empty() ? IpAddress::v4(number) : IpAddress{};
}

IpAddress reverse_v6(std::string_view labels) noexcept {
  std::uint8_t bytes[16] = {};
  if (labels.size() != 63) return {};
  for (std::size_t i = 0; i < 32; ++i) {
    const int digit = hex_digit(labels[2 * i]);
    if (digit < 0 || (i < 31 && labels[2 * i + 1] != '.')) return {};
    bytes[15 - i / 2] = static_cast<std::uint8_t>(bytes[15 - i / 2] | (i % 2 == 0 ? digit : digit << 4));
  }
  return IpAddress::v6(bytes);
}

}  // namespace

Parsed parse(std::span<const std::byte> in, Question& out) noexcept {
  if (in.size() < header_size || in.size() > max_message) return Parsed::ignore;
  out = {};
  out.id = word_at(in, 0);
  out.flags = word_at(in, 2);
  if ((out.flags & flag_response) != 0) return Parsed::ignore;
  if ((out.flags & mask_opcode) != 0) return Parsed::not_implemented;
  if (word_at(in, 4) != 1 || word_at(in, 6) != 0 || word_at(in, 8) != 0) return Parsed::malformed;
  std::size_t at = skip_name(in, header_size, false);
  if (at == 0 || in.size() - at < 4) return Parsed::malformed;
  out.type = word_at(in, at);
  out.klass = word_at(in, at + 2);
  at += 4;
  out.wire_size = static_cast<std::uint16_t>(at - header_size);
  std::memcpy(out.wire, in.data() + header_size, out.wire_size);
  spell(out);
  const std::uint16_t additional = word_at(in, 10);
  if (additional > most_additional) return Parsed::malformed;
  for (std::uint16_t i = 0; i < additional; ++i) {
    Record record{};
    const bool is_root = at < in.size() && byte_at(in, at) == 0;
    at = read_record(in, at, record);
    if (at == 0) return Parsed::malformed;
    if (record.type != type::opt) continue;
    if (out.edns || !is_root) return Parsed::malformed;  // RFC 6891 6.1.1: at most one, of the root
    out.edns = true;
    if (record.klass > plain_udp_size) out.udp_size = record.klass;
  }
  return Parsed::question;
}

std::size_t refuse(std::span<std::byte> out, std::span<const std::byte> in, Rcode code) noexcept {
  if (in.size() < header_size || out.size() < header_size) return 0;
  const std::uint16_t asked = word_at(in, 2);
  const auto flags = static_cast<std::uint16_t>((asked & (mask_opcode | flag_recursion_desired)) | flag_response |
                                                flag_recursion_available | static_cast<std::uint8_t>(code));
  std::memset(out.data(), 0, header_size);
  std::memcpy(out.data(), in.data(), 2);
  out[2] = static_cast<std::byte>(flags >> 8);
  out[3] = static_cast<std::byte>(flags & 0xff);
  return header_size;
}

std::size_t udp_limit(const Question& question) noexcept { return question.udp_size; }

Answer::Answer(std::span<std::byte> out, const Question& question, Rcode code, std::size_t limit) noexcept
    : out_(out.data(), out.size() < limit ? out.size() : limit), question_(question) {
  const std::size_t fixed = header_size + question.wire_size + (question.edns ? opt_size : 0);
  if (out_.size() < fixed || question.wire_size < 5) {
    broken_ = true;
    return;
  }
  flags_ = static_cast<std::uint16_t>(flag_response | flag_recursion_available |
                                      (question.flags & (flag_recursion_desired | flag_checking_disabled)) |
                                      static_cast<std::uint8_t>(code));
  std::memset(out_.data(), 0, header_size);
  put16(0, question.id);
  put16(4, 1);
  used_ = header_size;
  append(question.wire, question.wire_size);
}

void Answer::put16(std::size_t at, std::uint16_t value) noexcept {
  out_[at] = static_cast<std::byte>(value >> 8);
  out_[at + 1] = static_cast<std::byte>(value & 0xff);
}

void Answer::append16(std::uint16_t value) noexcept {
  put16(used_, value);
  used_ += 2;
}

void Answer::append(const void* from, std::size_t size) noexcept {
  std::memcpy(out_.data() + used_, from, size);
  used_ += size;
}

// Everything in front of the data. False: there is no room for the record and its data.
bool Answer::begin_record(std::uint16_t type, std::uint32_t ttl_seconds, std::size_t data_size) noexcept {
  if (broken_ || truncated_) return false;
  const std::size_t end = out_.size() - (question_.edns ? opt_size : 0);
  if (end - used_ < 12 + data_size) {
    truncated_ = true;
    return false;
  }
  append16(name_of_question);
  append16(type);
  append16(class_internet);
  append16(static_cast<std::uint16_t>(ttl_seconds >> 16));
  append16(static_cast<std::uint16_t>(ttl_seconds & 0xffff));
  append16(static_cast<std::uint16_t>(data_size));
  ++records_;
  return true;
}

void Answer::address(const IpAddress& address, std::uint32_t ttl_seconds) noexcept {
  const auto bytes = address.bytes();
  if (bytes.empty()) return;
  if (begin_record(address.is_v4() ? type::a : type::aaaa, ttl_seconds, bytes.size()))
    append(bytes.data(), bytes.size());
}

void Answer::pointer(std::string_view name, std::uint32_t ttl_seconds) noexcept {
  std::uint8_t wire[max_name_wire];
  std::size_t used = 0, label = 0;  // where the running label's length stands
  if (name.empty() || name.size() > max_name) return;
  for (std::size_t i = 0; i <= name.size(); ++i) {
    if (i < name.size() && name[i] != '.') {
      wire[1 + i] = static_cast<std::uint8_t>(name[i]);
      continue;
    }
    if (i == label || i - label > 63) return;
    wire[label] = static_cast<std::uint8_t>(i - label);
    label = i + 1;
  }
  used = name.size() + 2;
  wire[used - 1] = 0;
  if (begin_record(type::ptr, ttl_seconds, used)) append(wire, used);
}

std::size_t Answer::finish() noexcept {
  if (broken_) return 0;
  if (truncated_) {
    used_ = header_size + question_.wire_size;
    records_ = 0;
    flags_ |= flag_truncated;
  }
  put16(2, flags_);
  put16(6, records_);
  if (question_.edns) {
    put16(10, 1);
    const std::uint8_t root = 0;
    append(&root, 1);
    append16(type::opt);
    append16(own_udp_size);
    append16(0);
    append16(0);
    append16(0);
  }
  return used_;
}

std::size_t truncate(std::span<std::byte> out, const Question& question) noexcept {
  Answer answer(out, question, Rcode::ok);
  const std::size_t size = answer.finish();
  if (size != 0) out[2] |= static_cast<std::byte>(flag_truncated >> 8);
  return size;
}

bool is_reply(std::span<const std::byte> in, std::uint16_t id, const Question& question, ReplyHead& out) noexcept {
  if (in.size() < header_size || in.size() > max_message || word_at(in, 0) != id) return false;
  const std::uint16_t flags = word_at(in, 2), questions = word_at(in, 4);
  if ((flags & flag_response) == 0 || (flags & mask_opcode) != 0) return false;
  out.code = static_cast<Rcode>(flags & mask_rcode);
  out.truncated = (flags & flag_truncated) != 0;
  out.answers = word_at(in, 6);
  // Some servers refuse with a bare header.
  if (questions == 0) return out.code != Rcode::ok && out.code != Rcode::no_such_name && out.answers == 0;
  return questions == 1 && same_question(in, question);
}

std::size_t addresses_of(std::span<const std::byte> reply, std::span<IpAddress> out) noexcept {
  if (reply.size() < header_size || word_at(reply, 4) != 1) return 0;
  std::size_t at = skip_name(reply, header_size, false);
  if (at == 0 || reply.size() - at < 4) return 0;
  at += 4;
  std::size_t found = 0;
  for (std::uint16_t left = word_at(reply, 6); left > 0 && found < out.size(); --left) {
    Record record{};
    at = read_record(reply, at, record);
    if (at == 0) return 0;
    if (record.klass != class_internet) continue;
    std::uint8_t bytes[16];
    if (record.data_size <= sizeof bytes) std::memcpy(bytes, reply.data() + record.data, record.data_size);
    if (record.type == type::a && record.data_size == 4)
      out[found++] = IpAddress::v4(std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
                                   std::uint32_t{bytes[2]} << 8 | bytes[3]);
    else if (record.type == type::aaaa && record.data_size == 16) out[found++] = IpAddress::v6(bytes);
  }
  return found;
}

std::size_t build_query(std::span<std::byte> out, std::uint16_t id, std::string_view name, std::uint16_t klass,
                        std::uint16_t type) noexcept {
  if (name == ".") name = {};
  else if (!name.empty() && name[name.size() - 1] == '.') name = {name.data(), name.size() - 1};
  const std::size_t name_size = name.empty() ? 1 : name.size() + 2;
  if (name.size() > max_name || out.size() < header_size + name_size + 4) return 0;
  std::memset(out.data(), 0, header_size);
  const auto put16 = [&](std::size_t at, std::uint16_t value) {
    out[at] = static_cast<std::byte>(value >> 8);
    out[at + 1] = static_cast<std::byte>(value & 0xff);
  };
  put16(0, id);
  put16(2, flag_recursion_desired);
  put16(4, 1);
  std::size_t label = 0;
  for (std::size_t i = 0; i <= name.size() && !name.empty(); ++i) {
    if (i < name.size() && name[i] != '.') {
      if (name[i] == '\\') return 0;
      out[header_size + 1 + i] = static_cast<std::byte>(name[i]);
      continue;
    }
    if (i == label || i - label > 63) return 0;
    out[header_size + label] = static_cast<std::byte>(i - label);
    label = i + 1;
  }
  out[header_size + name_size - 1] = std::byte{0};
  put16(header_size + name_size, type);
  put16(header_size + name_size + 2, klass);
  return header_size + name_size + 4;
}

IpAddress reverse_address(std::string_view name) noexcept {
  constexpr std::string_view v4 = ".in-addr.arpa", v6 = ".ip6.arpa";
  if (ends_with(name, v4)) return reverse_v4({name.data(), name.size() - v4.size()});
  if (ends_with(name, v6)) return reverse_v6({name.data(), name.size() - v6.size()});
  return {};
}

}  // namespace towpath::dns
