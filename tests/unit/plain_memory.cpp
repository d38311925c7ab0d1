#include <doctest/doctest.h>

#include "agent/plain_memory.h"

using namespace towpath;
using Answer = PlainMemory::Answer;

namespace {

ProxyUrl proxy(std::string_view text) { return *parse_proxy_url(text).url; }

}  // namespace

TEST_CASE("a refusal is remembered for its lifetime, for that proxy and those credentials") {
  PlainMemory memory;
  const ProxyUrl one = proxy("http://boat:horse@a.example:3128");
  CHECK(memory.of(one, 5) == Answer::unknown);
  memory.refused(one, 5);
  CHECK(memory.of(one, 4 + PlainMemory::lifetime_ms) == Answer::refused);
  CHECK(memory.of(proxy("http://a.example:3128"), 6) == Answer::unknown);
  CHECK(memory.of(proxy("https://boat:horse@a.example:3128"), 6) == Answer::unknown);
  CHECK(memory.of(one, 5 + PlainMemory::lifetime_ms) == Answer::unknown);
}

TEST_CASE("a proxy that has granted one lately refuses the destination") {
  PlainMemory memory;
  const ProxyUrl one = proxy("http://a.example:3128");
  memory.granted(one, 0);
  memory.refused(one, 1);
  CHECK(memory.of(one, 2) == Answer::granted);
  memory.refused(one, PlainMemory::lifetime_ms);
  CHECK(memory.of(one, PlainMemory::lifetime_ms) == Answer::refused);
  memory.granted(one, PlainMemory::lifetime_ms + 1);
  CHECK(memory.of(one, PlainMemory::lifetime_ms + 2) == Answer::granted);
}
