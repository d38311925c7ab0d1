// Lookup against a small DNS server of our own on loopback.
#include "tests/unit/lookup_lab.h"

using namespace lookup_lab;

TEST_CASE("lookup: IPv4 comes first, and a wanted family alone") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "host.example").addresses == Texts{"192.0.2.1", "2001:db8::1"});
  CHECK(resolved(options_for(server), "Host.Example.", Family::v4).addresses == Texts{"192.0.2.1"});
  CHECK(resolved(options_for(server), "host.example", Family::v6).addresses == Texts{"2001:db8::1"});
  CHECK(resolved(options_for(server), "only4.example").addresses == Texts{"192.0.2.1"});
  CHECK(resolved(options_for(server), "only6.example").addresses == Texts{"2001:db8::1"});
  CHECK(resolved(options_for(server), "only6.example", Family::v4).error == LookupError::not_found);
  CHECK(resolved(options_for(server), "chain.example").addresses == Texts{"192.0.2.1", "2001:db8::1"});
}

TEST_CASE("lookup: an answer that does not fit comes over TCP") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "big.example").addresses.size() == 80);
}

TEST_CASE("lookup: failures say what kind they are") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "nx.example").error == LookupError::not_found);
  CHECK(resolved(options_for(server), "empty.example").error == LookupError::not_found);
  CHECK(resolved(options_for(server), "servfail.example").error == LookupError::refused);
  CHECK(resolved(options_for(server), "refused.example").error == LookupError::refused);
  CHECK(resolved(options_for(server), "garbage.example").error == LookupError::refused);
  for (const std::string& bad :
       {std::string(), std::string("."), std::string("a b.example"), std::string("a..b"), std::string("a\\.b"),
        std::string("a\0b", 3), std::string(64, 'x') + ".example", std::string(300, 'x')})
    CHECK_MESSAGE(resolved(options_for(server), bad).error == LookupError::bad_name, bad);
  CHECK(text_of(LookupError::refused).find("refuse") != std::string_view::npos);
}

TEST_CASE("lookup: silence and unusable packets end at the deadline") {
  DnsServer server(1);
  auto options = options_for(server);
  options.total = std::chrono::milliseconds(60);
  CHECK(resolved(options, "silent.example").error == LookupError::no_answer);
  CHECK(resolved(options, "short.example").error == LookupError::no_answer);
}

TEST_CASE("lookup: one silent family does not hold back the other") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "quiet6.example").addresses == Texts{"192.0.2.1"});
  auto options = options_for(server);
  options.total = std::chrono::milliseconds(250);  // ends before the grace period does
  const auto result = resolved(options, "quiet6.example");
  CHECK((result.addresses == Texts{"192.0.2.1"} || result.error == LookupError::no_answer));
}

TEST_CASE("lookup: no server at all is a refusal") {
  LookupOptions options;
  {
    const DnsServer gone(1);
    options = options_for(gone);
  }
  CHECK(resolved(options, "host.example").error == LookupError::refused);
}

TEST_CASE("lookup: a second server is asked when the first is gone") {
  DnsServer server(1);
  auto options = options_for(server);
  {
    const DnsServer gone(2);
    options.nameservers.insert(options.nameservers.begin(), gone.endpoint());
  }
  Loop loop;
  Lookup lookup(&loop.loop, options);
  std::vector<Result> results(30);
  for (std::size_t i = 0; i < results.size(); ++i)
    lookup.resolve("host.n" + std::to_string(i), Family::any, results[i].into());
  loop.run(lookup);
  for (const auto& result : results) REQUIRE(result.addresses == Texts{"192.0.2.1", "2001:db8::1"});
}

TEST_CASE("lookup: numbers, the hosts file and localhost need no server") {
  DnsServer server(1);
  const TempFile hosts("2001:db8::7 db\n10.0.0.7 db\n10.0.0.8 here.localhost\n");
  const auto options = options_for(server, hosts.path());
  CHECK(resolved(options, "192.0.2.77").addresses == Texts{"192.0.2.77"});
  CHECK(resolved(options, "::1").addresses == Texts{"::1"});
  CHECK(resolved(options, "::1", Family::v4).error == LookupError::not_found);
  CHECK(resolved(options, "DB").addresses == Texts{"10.0.0.7", "2001:db8::7"});
  CHECK(resolved(options, "localhost").addresses == Texts{"127.0.0.1", "::1"});
  CHECK(resolved(options, "app.localhost.", Family::v6).addresses == Texts{"::1"});
  CHECK(resolved(options, "here.localhost").addresses == Texts{"10.0.0.8"});
  CHECK(resolved(options, "db", Family::v6).addresses == Texts{"2001:db8::7"});
  CHECK(server.asked("db") == 0);
}

TEST_CASE("lookup: like the host, search domains are tried in order") {
  DnsServer server(1);
  const TempFile conf("nameserver 127.0.0.1\nsearch one.example two.example\n");
  LookupOptions options;
  options.resolv_conf_path = conf.path();
  options.hosts_path = "/nonexistent";
  options.nameserver_port = server.port();
  CHECK(resolved(options, "proxy", Family::any, true).addresses == Texts{"192.0.2.1", "2001:db8::1"});
  CHECK(server.asked("proxy.one.example") == 2);
  CHECK(server.asked("proxy.two.example") == 0);
  CHECK(resolved(options, "nx", Family::any, true).error == LookupError::not_found);
  CHECK(server.asked("nx.one.example") == 2);
  CHECK(server.asked("nx.two.example") == 2);
  CHECK(server.asked("nx") == 2);
  CHECK(resolved(options, "servfail", Family::v4, true).error == LookupError::refused);
  CHECK(server.asked("servfail") > 0);
  CHECK(resolved(options, "proxy.", Family::any, true).error == LookupError::none);
  CHECK(server.asked("proxy") == 2);
  CHECK(resolved(options, "alone").error == LookupError::none);
  CHECK(server.asked("alone.one.example") == 0);
}
