// The streams of tests/vectors/http-messages.json: whole, byte by byte, cut everywhere, mutated, and next to
// Boost.Beast.
#include <algorithm>
#include <random>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#define LLVMFuzzerTestOneInput fuzz_http_one_input
#include "tests/fuzz/http_messages.cpp"
#undef LLVMFuzzerTestOneInput

using namespace towpath;
using namespace towpath::testing;

namespace {

struct Stream {
  std::string name, wire, at_eof;
  HttpKind kind;
  std::string flaw;
  std::vector<std::size_t> ends;
  std::vector<HttpAsked> asked;
};

std::string latin1(const std::string& utf8) {
  std::string out;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    out += byte < 0x80 ? utf8[i] : static_cast<char>((byte & 3) << 6 | (utf8.at(++i) & 0x3f));
  }
  return out;
}

const std::vector<Stream>& streams() {
  static const std::vector<Stream> all = [] {
    std::vector<Stream> out;
    for (const auto& row : YAML::LoadFile(TOWPATH_VECTORS "/http-messages.json")["streams"]) {
      Stream each;
      each.name = row["kind"].as<std::string>() + ": " + row["name"].as<std::string>();
      each.wire = latin1(row["wire"].as<std::string>());
      each.at_eof = row["at_eof"] ? row["at_eof"].as<std::string>() : "";
      each.kind = row["kind"].as<std::string>() == "request" ? HttpKind::request : HttpKind::response;
      each.flaw = row["flaw"].as<std::string>();
      each.ends = row["ends"].as<std::vector<std::size_t>>();
      for (const auto& word : row["asked"]) {
        const auto text = word.as<std::string>();
        each.asked.push_back({text == "head", text == "connect", text == "upgrade"});
      }
      out.push_back(each);
    }
    return out;
  }();
  return all;
}

// Where Beast says that the first message ends; 0 when it refuses it or wants more.
template <bool request>
std::size_t beast_end(std::string_view wire, bool to_head) {
  boost::beast::http::parser<request, boost::beast::http::buffer_body> parser;
  parser.eager(true);
  parser.body_limit(1 << 20);
  if constexpr (!request) parser.skip(to_head);
  std::size_t used = 0;
  char sink[4096];
  while (!parser.is_done()) {
    parser.get().body().data = sink;
    parser.get().body().size = sizeof sink;
    boost::system::error_code error;
    const std::size_t took = parser.put(boost::asio::buffer(wire.data() + used, wire.size() - used), error);
    if (error && error != boost::beast::http::error::need_buffer) return 0;
    if (took == 0 && !parser.is_done()) return 0;
    used += took;
  }
  return used;
}

}  // namespace

TEST_CASE("every stream is read as its vector says, however it is cut") {
  for (const Stream& each : streams()) {
    CAPTURE(each.name);
    const HttpStory whole = read_whole(each.kind, each.asked, each.wire);
    CHECK(whole.broken == nullptr);
    if (each.flaw != "none") CHECK(name_of(whole.flaw) == each.flaw);
    const bool refused = whole.flaw != HttpFlaw::none && whole.flaw != HttpFlaw::truncated;
    CHECK(refused == (each.flaw != "none"));
    std::vector<std::size_t> ends = whole.ends;
    if (whole.at_end == HttpMessages::What::end) CHECK(each.at_eof == "end");
    CHECK(ends == each.ends);
    if (each.at_eof == "flaw") CHECK(whole.flaw == HttpFlaw::truncated);
    if (each.at_eof == "more") CHECK(whole.at_end == HttpMessages::What::more);
    CHECK(read_bytes(each.kind, each.asked, each.wire) == whole);
    for (std::size_t cut = 0; cut <= each.wire.size(); ++cut)
      if (!(read_cut(each.kind, each.asked, each.wire, cut) == whole)) FAIL("cut at ", cut);
  }
}

TEST_CASE("what is accepted ends for Beast where it ends here") {
  std::size_t compared = 0;
  for (const Stream& each : streams()) {
    if (each.ends.empty() || each.flaw != "none") continue;
    CAPTURE(each.name);
    std::size_t begin = 0;
    for (std::size_t i = 0; i < each.ends.size(); ++i) {
      const std::string_view rest = std::string_view(each.wire).substr(begin);
      const bool to_head = i < each.asked.size() && each.asked[i].head;
      const std::size_t end =
          each.kind == HttpKind::request ? beast_end<true>(rest, false) : beast_end<false>(rest, to_head);
      // RFC 9112 4 wants the blank in front of a reason that is not there; servers leave it out, and nobody is misled.
      CHECK(end == (each.name == "response: no reason" ? 0 : each.ends[i] - begin));
      begin = each.ends[i];
      ++compared;
    }
  }
  CHECK(compared > 30);
}

TEST_CASE("mutated streams break no promise") {
  std::mt19937 random(20241125);
  const auto below = [&](std::size_t limit) { return random() % limit; };
  constexpr std::string_view words[] = {"\r\n",
                                        "\n",
                                        "\r",
                                        " ",
                                        "\t",
                                        ":",
                                        ";",
                                        "0",
                                        "chunked",
                                        "5",
                                        "f",
                                        "-",
                                        "HTTP/1.1",
                                        "HTTP/1.0",
                                        "Host",
                                        "\r\n\r\n",
                                        "GET",
                                        "\x80",
                                        "Content-Length: 3\r\n",
                                        "Transfer-Encoding: chunked\r\n"};
  for (int round = 0; round < 20000; ++round) {
    const Stream& each = streams()[below(streams().size())];
    std::string input;
    input += static_cast<char>((each.kind == HttpKind::response ? 1 : 0) | (below(8) << 1));
    input += static_cast<char>(below(256));
    input += each.wire;
    if (below(4) == 0) input += streams()[below(streams().size())].wire;
    for (std::size_t times = below(4); times > 0 && input.size() > 3; --times) {
      const std::size_t at = 2 + below(input.size() - 2);
      switch (below(4)) {
        case 0: input.erase(at, 1 + below(4)); break;
        case 1: input.insert(at, words[below(std::size(words))]); break;
        case 2: input[at] = static_cast<char>(below(256)); break;
        case 3: input.insert(at, input.substr(2 + below(input.size() - 2), below(40))); break;
      }
    }
    const char* broken = broken_promise_of_http({reinterpret_cast<const std::uint8_t*>(input.data()), input.size()});
    if (broken != nullptr) FAIL(broken, ": ", input);
  }
}

TEST_CASE("an endless head is refused at its limit, byte by byte as well") {
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  head.append(70000, 'x');
  CHECK(read_whole(HttpKind::request, {}, head).flaw == HttpFlaw::head_too_long);
  CHECK(read_bytes(HttpKind::request, {}, head).flaw == HttpFlaw::head_too_long);
  // The longest one that is let through.
  head.resize(HttpScanner::longest_head - 4);
  head += "\r\n\r\n";
  CHECK(read_whole(HttpKind::request, {}, head).ends == std::vector<std::size_t>{HttpScanner::longest_head});
  head.insert(head.size() - 4, "x");
  CHECK(read_whole(HttpKind::request, {}, head).flaw == HttpFlaw::head_too_long);
}

TEST_CASE("fields and trailers are counted") {
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (std::size_t i = 1; i < HttpHead::most_fields; ++i) head += "X: y\r\n";
  CHECK(read_whole(HttpKind::request, {}, head + "\r\n").flaw == HttpFlaw::none);
  CHECK(read_whole(HttpKind::request, {}, head + "X: y\r\n\r\n").flaw == HttpFlaw::too_many_fields);
  std::string body = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ";
  body.append(HttpScanner::longest_trailers, 'x');
  CHECK(read_whole(HttpKind::request, {}, body).flaw == HttpFlaw::trailers_too_long);
}

TEST_CASE("lists are read member by member") {
  HttpHead head;
  REQUIRE(head.parse(HttpKind::request,
                     "GET / HTTP/1.1\r\nHost: a\r\nConnection: x ,, Keep-Alive\r\nCONNECTION:\tupgrade,\r\n\r\n") ==
          HttpFlaw::none);
  CHECK(head.lists("connection", "X"));
  CHECK(head.lists("Connection", "keep-alive"));
  CHECK(head.lists("connection", "upgrade"));
  CHECK_FALSE(head.lists("connection", "keep"));
  CHECK_FALSE(head.lists("connection", ""));
}
