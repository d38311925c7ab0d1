// The promises of proto/handshake.h under bytes that no server sends: mutated replies, seeded.
#include <cstring>
#include <random>

#include <doctest/doctest.h>

// The entry point belongs to libFuzzer; here it only has to have a name of its own.
#define LLVMFuzzerTestOneInput fuzz_handshake_one_input
#include "tests/fuzz/handshake.cpp"
#undef LLVMFuzzerTestOneInput

using namespace towpath::testing;
using namespace std::string_view_literals;

namespace {

constexpr std::string_view http_replies[] = {
    "HTTP/1.1 200 OK\r\nVia: x\r\n folded\r\n\r\ntunnel"sv,
    "HTTP/1.0 407 No\r\nProxy-Authenticate: Digest realm=\"a, b\", Basic\r\nProxy-Authenticate: NTLM\r\n\r\nbody"sv,
    "HTTP/1.1 503 x\nX-Squid-Error: ERR_CONNECT_FAIL 111\n\n"sv,
    "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 502 x\r\nProxy-Status: \"a\\\"\"; error=dns_error; details=\"q\", b\r\n\r\n"sv,
};
constexpr std::string_view socks_replies[] = {
    "\x05\0\x05\0\0\x01\x0a\0\0\x01\0\x50SSH"sv,
    "\x05\x02\x01\0\x05\0\0\x03\x04name\0\x50SSH"sv,
    "\x05\x02\x05\0\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50T"sv,
    "\x05\0\x05\x05\0\0"sv,
};
constexpr std::string_view dictionary[] = {"\r\n"sv,
                                           "\n"sv,
                                           "\r"sv,
                                           "\0"sv,
                                           " "sv,
                                           ";"sv,
                                           ","sv,
                                           "\""sv,
                                           "\\"sv,
                                           "="sv,
                                           "HTTP/1.1 "sv,
                                           "200"sv,
                                           "100"sv,
                                           "\x05"sv,
                                           "\x03\xff"sv,
                                           "X-Squid-Error:"sv,
                                           "Proxy-Status: a;error="sv,
                                           "Proxy-Authenticate: "sv};

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return random_() % limit; }

  std::string input() {
    const bool socks = below(2) == 1;
    std::string text(socks ? socks_replies[below(4)] : http_replies[below(4)]);
    for (std::size_t times = below(4); times > 0; --times) mutate(text);
    const char head[] = {static_cast<char>(below(2) | (socks ? 2 : 0)), static_cast<char>(below(256))};
    return std::string(head, 2) + text;
  }

 private:
  void mutate(std::string& text) {
    const std::size_t at = below(text.size() + 1);
    switch (below(5)) {
      case 0: text.insert(at, dictionary[below(std::size(dictionary))]); break;
      case 1: text.erase(at, 1 + below(4)); break;
      case 2: text.resize(at); break;
      case 3:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
        break;
      default: text.insert(at, text.substr(below(text.size() + 1), 1 + below(40))); break;
    }
  }

  std::mt19937 random_;
};

}  // namespace

TEST_CASE("handshakes: mutated replies break no promise") {
  constexpr int rounds = 60000;  // each feeds three machines
  Mutator mutator(20240229);
  int broken = 0;
  for (int i = 0; i < rounds && broken < 5; ++i) {
    const std::string input = mutator.input();
    const char* const promise = broken_promise({reinterpret_cast<const std::uint8_t*>(input.data()), input.size()});
    if (promise == nullptr) continue;
    ++broken;
    CHECK_MESSAGE(promise == nullptr, "round " << i << ": " << promise);
  }
  CHECK(broken == 0);
}
