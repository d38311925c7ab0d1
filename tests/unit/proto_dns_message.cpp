#include "proto/dns_message.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

using namespace towpath;
using namespace towpath::dns;

namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes(std::initializer_list<int> list) {
  Bytes out;
  for (const int each : list) out.push_back(static_cast<std::byte>(each));
  return out;
}

Bytes query(std::string_view name, std::uint16_t kind = type::a, std::uint16_t id = 0x1234) {
  Bytes out(max_question + header_size);
  out.resize(build_query(out, id, name, class_internet, kind));
  return out;
}

void add_opt(Bytes& message, int udp_size) {
  message[11] = std::byte{1};
  for (const std::byte each : bytes({0, 0, 41, udp_size >> 8, udp_size & 255, 0, 0, 0, 0, 0, 0}))
    message.push_back(each);
}

Question parsed(const Bytes& message) {
  Question out;
  REQUIRE(parse(message, out) == Parsed::question);
  return out;
}

std::string random_name(std::mt19937& random) {
  std::string out;
  const std::size_t wanted = 1 + random() % max_name;
  while (out.size() < wanted) {
    if (!out.empty()) out += '.';
    for (std::size_t i = 1 + random() % 63; i > 0 && out.size() < max_name; --i)
      out += "abcdefghijklmnopqrstuvwxyz0123456789-_"[random() % 38];
    if (out.size() >= max_name - 1) break;
  }
  while (out.ends_with('.')) out.pop_back();
  return out;
}

}  // namespace

TEST_CASE("dns: a question says what it asks") {
  const Question q = parsed(query("WwW.Example.COM", type::aaaa));
  CHECK(q.id == 0x1234);
  CHECK(q.text() == "www.example.com");
  CHECK(q.type == type::aaaa);
  CHECK(q.klass == class_internet);
  CHECK_FALSE(q.edns);
  CHECK(udp_limit(q) == 512);
  const Question root = parsed(query("."));
  CHECK_FALSE(root.named);
  CHECK(root.text().empty());
}

TEST_CASE("dns: OPT tells the size, at most once") {
  Bytes message = query("a.example");
  add_opt(message, 4096);
  CHECK(parsed(message).edns);
  CHECK(udp_limit(parsed(message)) == 4096);
  Bytes small = query("a.example");
  add_opt(small, 100);
  CHECK(udp_limit(parsed(small)) == 512);
  add_opt(message, 4096);
  message[11] = std::byte{2};
  Question q;
  CHECK(parse(message, q) == Parsed::malformed);
}

TEST_CASE("dns: what is no query for one name is refused or ignored") {
  Question q;
  const Bytes good = query("a.example");
  CHECK(parse({}, q) == Parsed::ignore);
  CHECK(parse(std::span(good).first(11), q) == Parsed::ignore);
  const auto changed = [&](std::size_t at, int value) {
    Bytes out = good;
    out[at] = static_cast<std::byte>(value);
    return parse(out, q);
  };
  CHECK(changed(2, 0x81) == Parsed::ignore);           // a response
  CHECK(changed(2, 0x29) == Parsed::not_implemented);  // UPDATE
  CHECK(changed(5, 0) == Parsed::malformed);
  CHECK(changed(5, 2) == Parsed::malformed);
  CHECK(changed(7, 1) == Parsed::malformed);
  CHECK(changed(9, 1) == Parsed::malformed);
  CHECK(changed(11, 1) == Parsed::malformed);
  CHECK(changed(12, 0xc0) == Parsed::malformed);  // compression
  CHECK(changed(12, 0x41) == Parsed::malformed);  // an extended label
  CHECK(changed(12, 63) == Parsed::malformed);
}

TEST_CASE("dns: labels without a plain text form are no name") {
  for (const int odd : {0x2e, 0x20, 0x5c, 0, 0xe9}) {
    Bytes message = query("abc.example");
    message[14] = static_cast<std::byte>(odd);
    CHECK_FALSE(parsed(message).named);
  }
}

TEST_CASE("dns: every name survives the trip") {
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    const std::string name = random_name(random);
    const Bytes message = query(name);
    REQUIRE_FALSE_MESSAGE(message.empty(), name);
    CHECK(parsed(message).text() == name);
    const Question q = parsed(query("x.example", type::ptr));
    Bytes out(1024);
    Answer answer(out, q, Rcode::ok);
    answer.pointer(name, 5);
    out.resize(answer.finish());
    // The record's data is the name as the question has it.
    REQUIRE(out.size() > message.size());
    CHECK(std::equal(message.begin() + 12, message.end() - 4, out.end() - static_cast<long>(name.size()) - 2));
  }
}

TEST_CASE("dns: names that do not fit make no query") {
  CHECK(query(std::string(64, 'a')).empty());
  CHECK(query("a..b").empty());
  CHECK(query(".a").empty());
  CHECK(query(std::string(254, 'a')).empty());
  Bytes small(20);
  CHECK(build_query(small, 1, "example.com", 1, 1) == 0);
}

TEST_CASE("dns: an answer repeats the question as it was spelled") {
  Bytes message = query("MiXeD.Example");
  add_opt(message, 1400);
  const Question q = parsed(message);
  Bytes out(512);
  Answer answer(out, q, Rcode::ok);
  answer.address(IpAddress::parse("198.18.0.7"), 5);
  out.resize(answer.finish());
  ReplyHead head;
  REQUIRE(is_reply(out, 0x1234, q, head));
  CHECK(head.answers == 1);
  CHECK(head.code == Rcode::ok);
  CHECK_FALSE(head.truncated);
  CHECK(std::equal(message.begin() + 12, message.begin() + 12 + q.wire_size, out.begin() + 12));
  IpAddress found[4];
  REQUIRE(addresses_of(out, found) == 1);
  CHECK(found[0] == IpAddress::parse("198.18.0.7"));
  CHECK(out[11] == std::byte{1});  // OPT comes back
  CHECK_FALSE(is_reply(out, 0x1235, q, head));
  CHECK_FALSE(is_reply(out, 0x1234, parsed(query("other.example")), head));
  CHECK(is_reply(out, 0x1234, parsed(query("mixed.example")), head));
}

TEST_CASE("dns: negative answers have the code and no record") {
  const Question q = parsed(query("a.example"));
  for (const Rcode code : {Rcode::ok, Rcode::failed, Rcode::no_such_name}) {
    Bytes out(512);
    Answer answer(out, q, code);
    out.resize(answer.finish());
    ReplyHead head;
    REQUIRE(is_reply(out, 0x1234, q, head));
    CHECK(head.code == code);
    CHECK(head.answers == 0);
  }
  Bytes out(12);
  REQUIRE(refuse(out, query("a.example"), Rcode::malformed) == 12);
  CHECK((out[3] & std::byte{15}) == std::byte{1});
  CHECK(refuse(out, bytes({1, 2, 3}), Rcode::malformed) == 0);
}

TEST_CASE("dns: what does not fit comes truncated, never cut") {
  Bytes message = query("a.example");
  add_opt(message, 600);
  const Question q = parsed(message);
  Bytes room(65535);
  for (std::size_t limit = 0; limit < 700; ++limit) {
    Answer answer(room, q, Rcode::ok, limit);
    for (std::uint32_t i = 0; i < 20; ++i) answer.address(IpAddress::v4(0xc6120001 + i), 5);
    const std::size_t size = answer.finish();
    CHECK(size <= limit);
    if (size == 0) continue;
    ReplyHead head;
    REQUIRE(is_reply({room.data(), size}, 0x1234, q, head));
    IpAddress found[32];
    CHECK(addresses_of({room.data(), size}, found) == (head.truncated ? 0 : 20));
  }
  const std::size_t size = truncate(room, q);
  ReplyHead head;
  REQUIRE(is_reply({room.data(), size}, 0x1234, q, head));
  CHECK(head.truncated);
}

TEST_CASE("dns: reverse names are addresses, others are not") {
  CHECK(reverse_address("7.0.18.198.in-addr.arpa") == IpAddress::parse("198.18.0.7"));
  const std::string six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.6.4.7.1.6.0.7.7.7.f.6.4.7.d.f.ip6.arpa";
  CHECK(reverse_address(six) == IpAddress::parse("fd74:6f77:7061:7468::1"));
  for (const char* bad :
       {"", "in-addr.arpa", "0.18.198.in-addr.arpa", "7.0.18.256.in-addr.arpa", "1.7.0.18.198.in-addr.arpa",
        "07.0.18.198.in-addr.arpa", "a.0.18.198.in-addr.arpa", "7.0.18.198.in-addr.arpa.example", "1.0.ip6.arpa",
        "7.0.18..in-addr.arpa", "0000.0.18.198.in-addr.arpa"})
    CHECK_FALSE_MESSAGE(reverse_address(bad), bad);
}

TEST_CASE("dns: random and damaged messages stay within their bounds") {
  std::mt19937 random(3);
  Bytes message = query("www.some.example");
  add_opt(message, 1232);
  const Question asked = parsed(message);
  Bytes reply(512);
  Answer answer(reply, asked, Rcode::ok);
  for (std::uint32_t i = 0; i < 5; ++i) answer.address(IpAddress::v4(i), 5);
  reply.resize(answer.finish());
  for (int round = 0; round < 100000; ++round) {
    Bytes mutated = round % 2 == 0 ? message : reply;
    for (unsigned flips = random() % 5; flips > 0; --flips) mutated[random() % mutated.size()] = std::byte(random());
    mutated.resize(random() % (mutated.size() + 1));
    if (round % 10 == 0)
      for (std::byte& each : mutated) each = std::byte(random());
    // An exact allocation, so that a sanitizer sees every step too far.
    const Bytes exact(mutated.begin(), mutated.end());
    Question q;
    if (parse(exact, q) == Parsed::question) {
      CHECK(q.name_size <= max_name);
      CHECK(q.wire_size <= max_question);
      Bytes out(udp_limit(q));
      Answer back(out, q, Rcode::no_such_name);
      CHECK(back.finish() != 0);
    }
    ReplyHead head;
    (void)is_reply(exact, asked.id, asked, head);
    IpAddress found[3];
    CHECK(addresses_of(exact, found) <= 3);
    Bytes out(12);
    CHECK(refuse(out, exact, Rcode::malformed) == (exact.size() < 12 ? 0 : 12));
  }
}
