// The PROXY header: the vectors of tests/vectors/reverse-vectors.json, each whole, byte by byte and at every cut.
#include "proto/proxy_header.h"

#include <doctest/doctest.h>

#include "tests/unit/reverse_vectors.h"

using namespace towpath;
using namespace towpath::testing;
using State = ProxyHeader::State;

namespace {

// As a receiver that looks again with every byte that comes; the answer must not change once it is given.
ProxyHeader read_growing(std::string_view text, std::size_t first) {
  ProxyHeader out = read_proxy_header(bytes_of(text.substr(0, first)));
  for (std::size_t size = first; out.state == State::incomplete && size < text.size();)
    out = read_proxy_header(bytes_of(text.substr(0, ++size)));
  return out;
}

void check_same(const ProxyHeader& a, const ProxyHeader& b) {
  CHECK(a.state == b.state);
  CHECK(a.size == b.size);
  CHECK(a.client == b.client);
  CHECK(a.reason == b.reason);
}

void check_split(std::string_view text) {
  const ProxyHeader whole = read_proxy_header(bytes_of(text));
  CHECK(whole.size <= text.size());
  check_same(whole, read_growing(text, 0));
  const std::size_t step = 1 + text.size() / 512;
  for (std::size_t cut = 0; cut <= text.size(); cut += step) {
    CAPTURE(cut);
    const ProxyHeader part = read_proxy_header(bytes_of(text.substr(0, cut)));
    if (part.state != State::incomplete) check_same(part, whole);
    else CHECK((cut < text.size() || whole.state == State::incomplete));
  }
}

State state_of(std::string_view text) { return read_proxy_header(bytes_of(text)).state; }

const std::string v2_begin("\r\n\r\n\0\r\nQUIT\n", 12);

std::string v2(const std::string& command_family, const std::string& payload) {
  std::string out = v2_begin + command_family;
  out += static_cast<char>(payload.size() >> 8);
  out += static_cast<char>(payload.size() & 255);
  return out + payload;
}

}  // namespace

TEST_CASE("PROXY header: every vector") {
  int run = 0;
  for (const ReverseVector& v : reverse_vectors()) {
    if (!v.kind.starts_with("proxy-v") && v.kind != "proxy-missing") continue;
    INFO(v.id);
    const ProxyHeader header = read_proxy_header(bytes_of(v.input));
    check_split(v.input);
    const bool optional = v.mode == "optional";
    if (v.action == "close") {
      if (v.kind == "proxy-v1-timeout") CHECK(header.state == State::incomplete);
      else CHECK((header.state == State::malformed || (header.state == State::absent && !optional)));
    } else if (header.state == State::whole) {
      CHECK((header.client.address ? header.client : v.peer) == v.client);
      CHECK(v.input.substr(header.size) == v.rest);
      if (v.consumed != 0) CHECK(header.size == v.consumed);
      if (!v.authority.empty()) CHECK(header.authority == v.authority);
    } else {
      CHECK(optional);
      CHECK(v.input == v.rest);
      CHECK((header.state == State::absent || v.input.empty()));
    }
    ++run;
  }
  CHECK(run == 42);
}

TEST_CASE("PROXY v1: the line may be 107 bytes long, and not one more") {
  const std::string body = "PROXY UNKNOWN ";
  const std::string longest = body + std::string(107 - 2 - body.size(), 'x') + "\r\n";
  CHECK(longest.size() == 107);
  CHECK(state_of(longest) == State::whole);
  check_split(longest);
  const std::string too_long = body + std::string(108 - 2 - body.size(), 'x') + "\r\n";
  CHECK(state_of(too_long) == State::malformed);
  check_split(too_long);
  CHECK(state_of(body + std::string(92, 'x')) == State::incomplete);
  CHECK(state_of(body + std::string(93, 'x')) == State::malformed);
  CHECK(state_of(body + std::string(92, 'x') + "\r") == State::malformed);
}

TEST_CASE("PROXY v1: what is nearly right is wrong") {
  for (const char* line :
       {"PROXY TCP4 1.2.3.4 5.6.7.8 80 443\n", "PROXY TCP4 1.2.3.4 5.6.7.8 80 443\rx\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 80 443\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 80\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 80 443 \r\n", "PROXY TCP4 01.2.3.4 5.6.7.8 80 443\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 80 443\r\n", "PROXY TCP6 1.2.3.4 5.6.7.8 80 443\r\n",
        "PROXY TCP6 ::1 1.2.3.4 80 443\r\n", "PROXY tcp4 1.2.3.4 5.6.7.8 80 443\r\n", "PROXY UNKNOWNX\r\n",
        "PROXY \r\n", "PROXY\t TCP4 1.2.3.4 5.6.7.8 80 443\r\n", "PROXY TCP4\t1.2.3.4 5.6.7.8 80 443\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 443\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 00 443\r\n"}) {
    INFO(line);
    CHECK(state_of(line) != State::whole);
    CHECK(state_of(line) != State::incomplete);
    check_split(line);
  }
  CHECK(state_of(std::string("PROXY TCP4 1.2.3.4\0 5.6.7.8 80 443\r\n", 36)) == State::malformed);
  CHECK(state_of("PROXY UNKNOWN\r\n") == State::whole);
}

TEST_CASE("PROXY v2: other families and LOCAL are skipped whole, and name nobody") {
  const std::string unix_addresses(216, 'x');
  for (const auto& header :
       {v2("\x21\x31", unix_addresses), v2("\x21\x12", std::string(12, 1)), v2(std::string("\x21\x00", 2), "abc"),
        v2(std::string("\x20\x00", 2), ""), v2("\x20\x55", "whatever")}) {
    const ProxyHeader read = read_proxy_header(bytes_of(header + "rest"));
    CHECK(read.state == State::whole);
    CHECK(read.size == header.size());
    CHECK(!read.client.address);
    check_split(header + "rest");
  }
  CHECK(state_of(v2("\x22\x11", std::string(12, 1))) == State::malformed);
  CHECK(state_of(v2("\x21\x13", std::string(12, 1))) == State::malformed);
  CHECK(state_of(v2("\x21\x11", std::string(11, 1))) == State::malformed);
  CHECK(state_of(v2("\x21\x21", std::string(35, 1))) == State::malformed);
}

TEST_CASE("PROXY v2: a length over the limit is refused before it has come") {
  CHECK(state_of(v2_begin + "\x21\x11\x10\x01") == State::malformed);
  CHECK(state_of(v2_begin + std::string("\x21\x11\x10\x00", 4)) == State::incomplete);
}

TEST_CASE("PROXY v2: no bit of a header with a CRC32C can flip unseen") {
  for (const ReverseVector& v : reverse_vectors()) {
    if (v.id != "P2-24") continue;
    for (std::size_t bit = 0; bit < v.input.size() * 8; ++bit) {
      std::string flipped = v.input;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
      const ProxyHeader read = read_proxy_header(bytes_of(flipped));
      CAPTURE(bit);
      // LOCAL and families without addresses are skipped; a type byte may name another TLV.
      if (read.state == State::whole && read.client.address) CHECK(bit / 8 == 28);
      check_split(flipped);
    }
  }
}
