#include "proto/wire.h"
#include <cstring>

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

using namespace towpath;
using namespace towpath::wire;

namespace {

Message connect_ask() {
  Message m{};
  m.kind = Ask::connect;
  m.token.fill(7);
  m.connect.target = {IpAddress::parse("2001:db8::1"), 443};
  m.connect.cookie = 99;
  m.connect.fd = 12;
  m.connect.domain = AF_INET6;
  m.connect.blocking = true;
  m.connect.registration_count = 2;
  m.connect.registrations[1] = {12, 5, 0x80000004u, 0, 0xdeadbeefcafeull};
  return m;
}

std::vector<Message> one_of_each() {
  std::vector<Message> all;
  for (std::uint8_t kind = 0; kind < ask_count; ++kind) {
    Message m = connect_ask();
    m.kind = static_cast<Ask>(kind);
    m.watch.count = 3;
    m.name = {AF_UNSPEC, "db.example"};
    m.learn.name = "api.example";
    m.learn.count = 2;
    m.learn.addresses[0] = IpAddress::parse("192.0.2.1");
    m.learn.addresses[1] = IpAddress::parse("2001:db8::2");
    m.reverse = IpAddress::parse("198.18.0.7");
    m.datagram = {{IpAddress::parse("192.0.2.53"), 53}, 98, AF_INET, true};
    m.query = std::as_bytes(std::span("question"));
    m.status = {StatusFormat::prometheus, 4711};
    all.push_back(m);
  }
  return all;
}

}  // namespace

TEST_CASE("wire: every ask survives the trip, and no shortened or lengthened packet is taken for one") {
  for (const Message& ask : one_of_each()) {
    std::byte packet[max_message + 1];
    const std::size_t size = encode({packet, max_message}, ask);
    REQUIRE(size > 0);
    Message back{};
    REQUIRE(decode({packet, size}, back));
    std::byte again[max_message];
    CHECK(encode(again, back) == size);
    CHECK(std::memcmp(packet, again, size) == 0);
    for (std::size_t cut = 0; cut < size; ++cut) CHECK_FALSE(decode({packet, cut}, back));
    packet[size] = std::byte{0};
    CHECK_FALSE(decode({packet, size + 1}, back));
    CHECK(encode({again, size - 1}, ask) == 0);
  }
}

TEST_CASE("wire: every answer survives the trip") {
  for (std::uint8_t kind = 0; kind < answer_count; ++kind) {
    Reply reply;
    reply.kind = static_cast<Answer>(kind);
    reply.number = 113;
    reply.endpoint = {IpAddress::parse("127.0.0.1"), 3128};
    reply.v4 = IpAddress::parse("198.18.1.1");
    reply.v6 = IpAddress::parse("fd74::1");
    reply.name = "db.example";
    reply.message = std::as_bytes(std::span("answer"));
    reply.candidate_count = 2;
    reply.candidates[0] = "db.ns.svc.cluster.local";
    reply.candidates[1] = "db.cluster.local";
    std::byte packet[max_message], again[max_message];
    const std::size_t size = encode(packet, reply);
    Reply back;
    REQUIRE(decode({packet, size}, back));
    CHECK(encode(again, back) == size);
    CHECK(std::memcmp(packet, again, size) == 0);
    for (std::size_t cut = 0; cut < size; ++cut) CHECK_FALSE(decode({packet, cut}, back));
  }
}

TEST_CASE("wire: mutated and random packets are refused or read within bounds") {
  std::mt19937 random(1);
  std::byte packet[max_message];
  for (int round = 0; round < 50000; ++round) {
    const auto all = one_of_each();
    const std::size_t size = encode(packet, all[random() % all.size()]);
    for (unsigned flips = 1 + random() % 4; flips > 0; --flips) packet[random() % size] = std::byte(random());
    Message m{};
    if (!decode({packet, size}, m)) continue;
    CHECK(m.connect.registration_count <= max_registrations);
    CHECK(m.watch.count <= max_watched);
    CHECK(m.learn.count <= max_learnt);
    CHECK(m.name.name.size() <= max_name);
    CHECK(m.query.size() <= max_query);
    if (m.kind == Ask::status) CHECK(static_cast<int>(m.status.format) < status_format_count);
    Reply r;
    if (decode({packet, size}, r)) CHECK(r.candidate_count <= max_candidates);
  }
}

TEST_CASE("wire: the control variable is a name and a token, nothing else") {
  Control c;
  REQUIRE(parse_control("towpath-1:000102030405060708090a0b0c0d0e0f", c));
  CHECK(std::string(c.name, c.name_size) == "towpath-1");
  CHECK(c.token[15] == 15);
  for (const char* bad :
       {"", ":", "a:", "a:00", "a:000102030405060708090a0b0c0d0e0g", ":000102030405060708090a0b0c0d0e0f",
        "a b:000102030405060708090a0b0c0d0e0f", "a:000102030405060708090a0b0c0d0e0f0"})
    CHECK_FALSE_MESSAGE(parse_control(bad, c), bad);
  CHECK_FALSE(parse_control(std::string(91, 'x') + ":000102030405060708090a0b0c0d0e0f", c));
}
