// Lookups at the same time, and their ends: sharing, bounds, cancelling, closing.
#include "tests/unit/lookup_lab.h"

using namespace lookup_lab;

TEST_CASE("lookup: an answer is kept, unless its TTL forbids") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  for (int i = 0; i < 3; ++i) {
    for (const char* name : {"host.example", "ttl0.example", "nx.example"}) {
      Result result;
      lookup.resolve(name, Family::v4, result.into());
      loop.run(lookup);
    }
  }
  CHECK(server.asked("host.example") == 1);
  CHECK(server.asked("ttl0.example") == 3);
  CHECK(server.asked("nx.example") == 3);
}

TEST_CASE("lookup: equal lookups at the same time share one question") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  std::vector<Result> results(50);
  for (auto& result : results) lookup.resolve("ttl0.example", Family::v4, result.into());
  loop.run(lookup);
  for (auto& result : results) REQUIRE(result.addresses == Texts{"192.0.2.1"});
  CHECK(server.asked("ttl0.example") == 1);
}

TEST_CASE("lookup: two hundred at once are all answered") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  std::vector<Result> results(200);
  std::set<Lookup::Ticket> tickets;
  for (std::size_t i = 0; i < results.size(); ++i)
    tickets.insert(
        lookup.resolve((i % 10 == 0 ? "nx.h" : "host.h") + std::to_string(i), Family::any, results[i].into()));
  CHECK(tickets.size() == 200);
  CHECK(lookup.pending() == 200);
  loop.run(lookup);
  for (std::size_t i = 0; i < results.size(); ++i)
    REQUIRE(results[i].error == (i % 10 == 0 ? LookupError::not_found : LookupError::none));
}

TEST_CASE("lookup: too many at once are refused and not queued") {
  DnsServer server(1);
  auto options = options_for(server);
  options.total = std::chrono::milliseconds(50);
  Loop loop;
  Lookup lookup(&loop.loop, options);
  int busy = 0, over = 0;
  for (int i = 0; i < 8300; ++i)
    lookup.resolve("silent.example", Family::v4, [&](auto, LookupError error) {
      ++over;
      if (error == LookupError::busy) ++busy;
    });
  loop.run(lookup);
  CHECK(over == 8300);
  CHECK(busy == 8300 - 8192);
}

TEST_CASE("lookup: a replaced resolv.conf is noticed, one without servers is not taken") {
  DnsServer first(1);
  const DnsServer second(2, "127.0.0.2", first.port());
  const TempFile conf("nameserver 127.0.0.1\n");
  LookupOptions options;
  options.resolv_conf_path = conf.path();
  options.hosts_path = "/nonexistent";
  options.nameserver_port = first.port();
  Loop loop;
  Lookup lookup(&loop.loop, options);
  Result before, waiting, after, emptied;
  lookup.resolve("host.example", Family::v4, before.into());
  loop.run(lookup);
  CHECK(before.addresses == Texts{"192.0.2.1"});
  lookup.resolve("other.example", Family::v4, waiting.into());
  conf.replace("nameserver 127.0.0.2\nsearch new.example\n");
  CHECK(lookup.resolv_conf().search == Texts{"new.example"});
  lookup.resolve("host.example", Family::v4, after.into());
  loop.run(lookup);
  CHECK(waiting.addresses == Texts{"192.0.2.1"});
  CHECK(after.addresses == Texts{"192.0.2.2"});
  conf.replace("");
  lookup.resolve("third.example", Family::v4, emptied.into());
  loop.run(lookup);
  CHECK(emptied.addresses == Texts{"192.0.2.2"});
  CHECK(lookup.resolv_conf().search == Texts{"new.example"});
}

TEST_CASE("lookup: what was cancelled is not called, the others are") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  Result first, second, third, fourth;
  const auto asked = lookup.resolve("host.example", Family::v4, first.into());
  lookup.resolve("host.example", Family::v4, second.into());
  const auto instant = lookup.resolve("192.0.2.9", Family::v4, third.into());
  lookup.cancel(asked);
  lookup.cancel(instant);
  lookup.cancel(asked);
  lookup.cancel(0);
  lookup.cancel(12345);
  // One callback cancels another that is due in the same moment.
  Lookup::Ticket last = 0;
  lookup.resolve("192.0.2.10", Family::v4, [&](auto, auto) { lookup.cancel(last); });
  last = lookup.resolve("192.0.2.11", Family::v4, fourth.into());
  loop.run(lookup);
  CHECK_FALSE(first.called);
  CHECK(second.addresses == Texts{"192.0.2.1"});
  CHECK_FALSE(third.called);
  CHECK_FALSE(fourth.called);
}

TEST_CASE("lookup: a cancelled callback is destroyed at once") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  const auto held = std::make_shared<int>();
  const auto ticket = lookup.resolve("silent.example", Family::v4, [held](auto, auto) {});
  CHECK(held.use_count() == 2);
  lookup.cancel(ticket);
  CHECK(held.use_count() == 1);
}

TEST_CASE("lookup: close with questions in flight drains the loop and calls nobody") {
  DnsServer server(1);
  Loop loop;
  Result results[40];
  const auto held = std::make_shared<int>();
  {
    Lookup lookup(&loop.loop, options_for(server));
    for (int i = 0; i < 40; ++i) lookup.resolve("silent.n" + std::to_string(i / 2), Family::any, results[i].into());
    lookup.resolve("big.example", Family::any, [held](auto, auto) { FAIL("called"); });
    for (int i = 0; i < 3; ++i) uv_run(&loop.loop, UV_RUN_NOWAIT);
    lookup.resolve("192.0.2.1", Family::any, [held](auto, auto) { FAIL("called"); });
    lookup.close();
    CHECK(lookup.resolve("host.example", Family::any, [held](auto, auto) { FAIL("called"); }) == 0);
    CHECK(lookup.pending() == 0);
    lookup.close();
    CHECK(lookup.resolv_conf().nameservers.empty());
  }
  CHECK(uv_run(&loop.loop, UV_RUN_DEFAULT) == 0);
  CHECK(held.use_count() == 1);
  for (const auto& result : results) CHECK_FALSE(result.called);
}

TEST_CASE("lookup: a callback may destroy the lookup, and start another one") {
  DnsServer server(1);
  Loop loop;
  auto lookup = std::make_unique<Lookup>(&loop.loop, options_for(server));
  Result never;
  bool called = false;
  lookup->resolve("host.example", Family::v4, [&](auto, auto) {
    lookup->resolve("next.example", Family::v4, [&](auto, auto) {
      called = true;
      lookup.reset();
    });
    lookup->resolve("next.example", Family::v4, never.into());
  });
  uv_run(&loop.loop, UV_RUN_DEFAULT);
  CHECK(called);
  CHECK_FALSE(never.called);
}

TEST_CASE("lookup: an idle lookup has no open socket") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  Result result;
  lookup.resolve("host.example", Family::any, result.into());
  CHECK(uv_run(&loop.loop, UV_RUN_DEFAULT) == 0);  // ends although nothing was closed
  CHECK(result.called);
}

TEST_CASE("lookup: the environment has no say") {
  DnsServer server(1);
  ::setenv("RES_OPTIONS", "ndots:9 retry:9 rotate", 1);
  ::setenv("LOCALDOMAIN", "wrong.example", 1);
  ::setenv("HOSTALIASES", "/dev/zero", 1);
  CHECK(resolved(options_for(server), "plain", Family::v4).addresses == Texts{"192.0.2.1"});
  CHECK(server.asked("plain") == 1);
  CHECK(server.asked("plain.wrong.example") == 0);
  for (const char* name : {"RES_OPTIONS", "LOCALDOMAIN", "HOSTALIASES"}) ::unsetenv(name);
}
