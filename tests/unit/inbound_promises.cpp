// Mutated vectors through the promises of tests/fuzz/inbound.h.
#include <random>

#include <doctest/doctest.h>

#include "tests/fuzz/inbound.h"
#include "tests/unit/reverse_vectors.h"

using namespace towpath::testing;

TEST_CASE("inbound: mutated vectors keep every promise") {
  std::mt19937 random(20240607);
  for (const ReverseVector& v : reverse_vectors()) {
    if (v.input.size() > 1024) continue;
    INFO(v.id);
    for (int round = 0; round < 300; ++round) {
      std::string text = v.input;
      for (auto edits = random() % 4; edits-- > 0 && !text.empty();) {
        const std::size_t at = random() % text.size();
        switch (random() % 4) {
          case 0: text[at] = static_cast<char>(random()); break;
          case 1: text.erase(at, random() % 4); break;
          case 2: text.insert(at, 1, " ,;:\"\r\n[]_"[random() % 10]); break;
          default: text.insert(at, text.substr(random() % text.size(), random() % 16)); break;
        }
      }
      const char* broken = broken_inbound_promise(text);
      if (broken == nullptr) continue;
      INFO(text);
      FAIL_CHECK(broken);
    }
  }
}
