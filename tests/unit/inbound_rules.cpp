// The rules of accept are replaced while others read them: nobody may see half of two.
#include <thread>

#include <doctest/doctest.h>

#include "proto/inbound_page.h"

using namespace towpath;

TEST_CASE("inbound page: a reader sees one generation of rules, whole") {
  const auto page = std::make_unique<InboundPage>();
  const auto fill = [&](std::uint8_t number) {
    write_inbound_rules(*page, [&](InboundRules& rules) {
      rules.default_rule = number;
      rules.range_count = number % 100;
      for (std::uint32_t port = 0; port < inbound_page_ports; ++port)
        rules.port_rules[port] = static_cast<std::uint8_t>(number % 128 | inbound_listed);
    });
  };
  fill(1);
  std::atomic<bool> done{false};
  std::uint64_t seen = 0, torn = 0;
  std::thread reader([&] {
    while (!done.load()) {
      torn += read_inbound_rules(*page, [](const InboundRules& rules) {
        const std::uint8_t first = rules.default_rule % 128;
        bool other = rules.range_count != rules.default_rule % 100u;
        for (std::uint32_t port = 0; port < inbound_page_ports; port += 997)
          other = other || rules.of(static_cast<std::uint16_t>(port)) != first;
        return other ? 1u : 0u;
      });
      ++seen;
    }
  });
  for (int turn = 0; turn < 20000; ++turn) fill(static_cast<std::uint8_t>(turn));
  done.store(true);
  reader.join();
  CHECK(seen > 0);
  CHECK(torn == 0);
}

TEST_CASE("inbound page: a generation that an agent began and did not finish is written again") {
  const auto page = std::make_unique<InboundPage>();
  write_inbound_rules(*page, [](InboundRules& rules) { rules.default_rule = 1; });
  page->rules_begun.fetch_add(1);
  page->rules[page->rules_begun.load() % 2].default_rule = 77;
  CHECK(inbound_rule_of(*page, 80) == 1);
  write_inbound_rules(*page, [](InboundRules& rules) { rules.by_port = 1; });
  CHECK(inbound_rule_of(*page, 80) == 0);
}
