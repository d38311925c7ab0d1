// DNS messages (RFC 1035, RFC 6891) as bytes in, bytes out: one question read, answers written, replies of other
// servers checked and searched for addresses. No heap, no socket, no clock; everything that arrives is hostile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/endpoint.h"

namespace towpath::dns {

inline constexpr std::size_t header_size = 12;
inline constexpr std::size_t max_name = 253;       // as text, without the trailing dot
inline constexpr std::size_t max_name_wire = 255;  // RFC 1035 2.3.4
inline constexpr std::size_t max_question = max_name_wire + 4;
inline constexpr std::size_t plain_udp_size = 512;  // RFC 1035 2.3.4, for whoever sends no OPT
inline constexpr std::uint16_t own_udp_size = 1232;
inline constexpr std::size_t max_message = 65535;

enum class Rcode : std::uint8_t {
  ok = 0,
  malformed = 1,
  failed = 2,
  no_such_name = 3,
  not_implemented = 4,
  refused = 5
};

namespace type {
inline constexpr std::uint16_t a = 1, cname = 5, soa = 6, ptr = 12, txt = 16, aaaa = 28, opt = 41, svcb = 64,
                               https = 65, any = 255;
}
inline constexpr std::uint16_t class_internet = 1;

// A question by value: what it asks, and how its answer must look.
struct Question {
  std::uint16_t id = 0;
  std::uint16_t flags = 0;  // the second word of the header as it came
  std::uint16_t type = 0;
  std::uint16_t klass = 0;
  bool edns = false;
  std::uint16_t udp_size = plain_udp_size;  // what the asker can take in one datagram, never below 512
  bool named = false;  // false: the root, or labels that have no plain text form (dots, blanks, non-ASCII inside)
  std::uint8_t name_size = 0;
  char name[max_name + 1] = {};  // lower case, without trailing dot, NUL behind it
  std::uint16_t wire_size = 0;   // the question section as it came: askers compare it, in its own spelling
  std::uint8_t wire[max_question] = {};

  [[nodiscard]] std::string_view text() const noexcept { return {name, name_size}; }
};

enum class Parsed : std::uint8_t {
  question,
  ignore,           // not a query: answering it could make two servers talk for ever
  malformed,        // to be answered with FORMERR by refuse()
  not_implemented,  // another opcode than QUERY: NOTIMP
};
// One query: exactly one question, no compression in it, any additional records (OPT, TSIG).
[[nodiscard]] Parsed parse(std::span<const std::byte> in, Question& out) noexcept;

// A header that refuses whatever `in` is, without a question section; its size, 0 when `in` has no header.
[[nodiscard]] std::size_t refuse(std::span<std::byte> out, std::span<const std::byte> in, Rcode code) noexcept;

// An answer in the making. Records go in order; what does not fit makes it a truncated one.
class Answer {
 public:
  // `limit`: what the asker can take (udp_limit(), or max_message over TCP).
  Answer(std::span<std::byte> out, const Question& question, Rcode code, std::size_t limit = max_message) noexcept;

  // The record belongs to the name that was asked for. An address of the wrong family is a caller's mistake.
  void address(const IpAddress& address, std::uint32_t ttl_seconds) noexcept;
  void pointer(std::string_view name, std::uint32_t ttl_seconds) noexcept;
  // Bytes of the whole message, with OPT where the asker sent one; 0 when even the question does not fit.
  [[nodiscard]] std::size_t finish() noexcept;

 private:
  bool begin_record(std::uint16_t type, std::uint32_t ttl_seconds, std::size_t data_size) noexcept;
  void put16(std::size_t at, std::uint16_t value) noexcept;
  void append16(std::uint16_t value) noexcept;
  void append(const void* from, std::size_t size) noexcept;

  std::span<std::byte> out_;
  const Question& question_;
  std::size_t used_ = 0;
  std::uint16_t records_ = 0;
  std::uint16_t flags_ = 0;
  bool truncated_ = false;
  bool broken_ = false;
};

// What may be sent to this asker in one datagram.
[[nodiscard]] std::size_t udp_limit(const Question& question) noexcept;
// The same reply without its records and with TC set: for one that is too long for its asker.
[[nodiscard]] std::size_t truncate(std::span<std::byte> out, const Question& question) noexcept;

// Another server's reply.
struct ReplyHead {
  Rcode code = Rcode::ok;  // the four bits of the header
  bool truncated = false;
  std::uint16_t answers = 0;
};
// False: not a reply to this question under this id (the spelling of the name may differ in case).
[[nodiscard]] bool is_reply(std::span<const std::byte> in, std::uint16_t id, const Question& question,
                            ReplyHead& out) noexcept;
// The addresses of the answer section, in order, at most out.size(); 0 for a malformed one.
[[nodiscard]] std::size_t addresses_of(std::span<const std::byte> reply, std::span<IpAddress> out) noexcept;

// A query for a name in text form; 0 when that is no name or does not fit. Recursion desired, no OPT.
[[nodiscard]] std::size_t build_query(std::span<std::byte> out, std::uint16_t id, std::string_view name,
                                      std::uint16_t klass, std::uint16_t type) noexcept;

// "7.0.18.198.in-addr.arpa" -> 198.18.0.7; no address for any other name.
[[nodiscard]] IpAddress reverse_address(std::string_view name) noexcept;

}  // namespace towpath::dns
