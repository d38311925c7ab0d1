// What an agent tells of itself: the histogram, and the three renderings of one struct.
#include "agent/status_text.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include "agent/inbound.h"

using namespace towpath;

namespace {

ProxyUrl proxy(const char* text) { return *parse_proxy_url(text).url; }

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("stats: a latency stands in the first bucket that holds it, and in all above") {
  LatencyHistogram seen;
  for (const unsigned ms : {0u, 1u, 2u, 10u, 11u, 30000u, 30001u}) seen.add(ms);
  CHECK(seen.count() == 7);
  CHECK(seen.sum_ms() == 60025);
  CHECK(seen.up_to(0) == 2);  // 1 ms
  CHECK(seen.up_to(1) == 3);
  CHECK(seen.up_to(2) == 3);  // 5 ms
  CHECK(seen.up_to(3) == 4);  // 10 ms
  CHECK(seen.up_to(4) == 5);
  CHECK(seen.up_to(seen.bounds_ms.size() - 1) == 6);
  CHECK(seen.bound_of(0.5) == 10);
  CHECK(seen.bound_of(1) == 0);  // longer than the last bound
  CHECK(LatencyHistogram{}.bound_of(0.5) == 0);
}

TEST_CASE("stats: one entry per proxy, whoever's object it is and whatever the login") {
  Stats stats;
  const ProxyUrl one = proxy("http://me:secret@proxy:3128"), again = proxy("http://proxy:3128"),
                 other = proxy("socks5://proxy:3128");
  CHECK(&stats.of(&one) == &stats.of(&again));
  CHECK(&stats.of(&one) != &stats.of(&other));
  CHECK(stats.of(nullptr).display == "direct");
  CHECK(stats.of(&one).display == "http://proxy:3128");
  for (unsigned port = 1; port < 1000; ++port) {
    ProxyUrl many = again;
    many.port = static_cast<std::uint16_t>(port);
    ++stats.of(&many).opened;
  }
  CHECK(stats.proxies().size() == Stats::most_proxies + 1);
  CHECK(stats.proxies().back().display == "others");
  CHECK(stats.proxies().back().opened > 700);
}

TEST_CASE("status: text, JSON and Prometheus tell the same, and every name survives") {
  Stats stats;
  const ProxyUrl first = proxy("http://me:secret@proxy:3128");
  ProxyCounters& counters = stats.of(&first);
  counters.opened = 12;
  counters.failures[static_cast<std::size_t>(Err::denied)] = 5;
  counters.handshake.add(3);
  stats.of(nullptr).failures[static_cast<std::size_t>(Err::name_unknown)] = 2;
  const InboundCounters inbound{.held = 7};
  Status status;
  status.version = "1.2";
  status.mode = "preload";
  status.net = "on";
  status.pid = 41;
  status.program = "we\"ird\n\\\x01\xff";
  status.program_pid = 42;
  status.source = "a \"file\"\\.yaml";
  status.tunnels_open = 9;
  status.now_unix = 3700;
  status.inbound = &inbound;
  status.health.push_back({"http://proxy:3128", false, 3, "proxy_unreachable", 1500});
  status.reload = ReloadStatus{4, 1, "line 3: \"x\""};
  std::size_t at = 0;
  for (const ProxyCounters& each : stats.proxies()) status.proxies.push_back({&each, at++ * 3});

  const std::string json = render(status, wire::StatusFormat::json);
  CHECK(json.find('\n') == json.size() - 1);
  const YAML::Node tree = YAML::Load(json);
  CHECK(tree["program"]["name"].as<std::string>() == "we\"ird\n\\\x01\xef\xbf\xbd");
  CHECK(tree["configuration"].as<std::string>() == "a \"file\"\\.yaml");
  CHECK(tree["proxies"].size() == 1);
  CHECK(tree["proxies"][0]["opened"].as<int>() == 12);
  CHECK(tree["proxies"][0]["in_progress"].as<int>() == 3);
  CHECK(tree["proxies"][0]["failures"]["denied"].as<int>() == 5);
  CHECK(tree["proxies"][0]["handshake"]["up_to_ms"]["5"].as<int>() == 1);
  CHECK(tree["direct_failures"]["name_unknown"].as<int>() == 2);
  CHECK(tree["inbound"]["held"].as<int>() == 7);
  CHECK(tree["health"][0]["healthy"].as<bool>() == false);
  CHECK(tree["reload"]["failed"].as<int>() == 1);

  const std::string metrics = render(status, wire::StatusFormat::prometheus);
  for (const char* line :
       {"towpath_build_info{version=\"1.2\"} 1", "towpath_tunnels_opened_total{proxy=\"http://proxy:3128\"} 12",
        "towpath_connect_failures_total{proxy=\"http://proxy:3128\",cause=\"denied\"} 5",
        "towpath_connect_failures_total{proxy=\"direct\",cause=\"name_unknown\"} 2", "towpath_tunnels_open 9",
        "towpath_handshake_seconds_bucket{proxy=\"http://proxy:3128\",le=\"0.002\"} 0",
        "towpath_handshake_seconds_bucket{proxy=\"http://proxy:3128\",le=\"0.005\"} 1",
        "towpath_handshake_seconds_bucket{proxy=\"http://proxy:3128\",le=\"1\"} 1",
        "towpath_handshake_seconds_sum{proxy=\"http://proxy:3128\"} 0.003", "towpath_inbound_held_total 7",
        "towpath_proxy_healthy{proxy=\"http://proxy:3128\"} 0"})
    CHECK_MESSAGE(has(metrics, std::string(line) + "\n"), line);

  const std::string text = render(status, wire::StatusFormat::text);
  CHECK(has(text, "agent 41  towpath 1.2, preload"));
  CHECK(has(text, "up 1h 1m"));
  CHECK(has(text, "12 tunnels opened, 3 in progress"));
  CHECK(has(text, "failed: 5 denied"));
  CHECK(has(text, "out of use after 3 failures (proxy_unreachable), tried again in 1.5 s"));
  for (const std::string* each : {&json, &metrics, &text}) {
    CHECK_FALSE(has(*each, "secret"));
    CHECK(each->back() == '\n');
  }
}
