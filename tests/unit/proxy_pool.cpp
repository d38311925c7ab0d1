#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "agent/proxy_pool.h"

#include <fcntl.h>
#include <unistd.h>

using namespace towpath;

namespace {

ProxyUrl proxy(std::string_view text) { return *parse_proxy_url(text).url; }

// A pool with a clock in the hand and a log that is read.
class Lab {
 public:
  explicit Lab(ProxyList http, ProxyList all = {}) {
    policy.http = std::move(http);
    policy.all = std::move(all);
    pool.adopt(policy);
  }
  ~Lab() {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  // The hosts in the order of a connect, the one on trial with a "?".
  std::string order() {
    const ProxyPool::Plan plan = pool.plan(policy.http, now);
    std::string out;
    for (const ProxyUrl* one : plan.order)
      out += (out.empty() ? "" : " ") + one->host + (one == plan.trial ? "?" : "");
    return out;
  }
  void fails(std::size_t index, const char* cause = "refused") {
    pool.unreachable(policy.http[index], cause, index + 1 < policy.http.size() ? &policy.http[index + 1] : nullptr, now,
                     now);
  }
  void answers(std::size_t index) { pool.reached(policy.http[index], now); }
  std::string log() {
    char text[4096];
    const ssize_t size = ::read(pipe_[0], text, sizeof text);
    return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
  }

  int open() {
    REQUIRE(::pipe2(pipe_, O_CLOEXEC | O_NONBLOCK) == 0);
    return pipe_[1];
  }

  int pipe_[2] = {-1, -1};
  Policy policy;
  std::uint64_t now = 100'000;
  Log sink{open(), Level::warning};
  ProxyPool pool{sink};
};

ProxyList abc() { return {proxy("http://a"), proxy("socks5://u:secret@b"), proxy("https://c")}; }

}  // namespace

TEST_CASE("proxy pool: the first healthy one comes first, and those in back-off last") {
  Lab lab(abc());
  CHECK(lab.order() == "a b c");
  lab.fails(0);
  CHECK(lab.order() == "b c a");
  lab.fails(1);
  CHECK(lab.order() == "c a b");
  lab.fails(2);
  CHECK(lab.order() == "a b c");  // a connect never fails untried
}

TEST_CASE("proxy pool: after the back-off one connect at a time tries it") {
  Lab lab(abc());
  lab.fails(0);
  lab.now += 999;
  CHECK(lab.order() == "b c a");
  lab.now += 1;
  CHECK(lab.order() == "a? b c");
  CHECK(lab.order() == "b c a");
  lab.pool.let_go(lab.policy.http[0]);  // the program gave up: another one
  CHECK(lab.order() == "a? b c");
  lab.answers(0);
  CHECK(lab.order() == "a b c");
  CHECK(lab.order() == "a b c");
}

TEST_CASE("proxy pool: one trial per connect") {
  Lab lab(abc());
  lab.fails(0);
  lab.fails(1);
  lab.now += 1000;
  CHECK(lab.order() == "a? c b");
  CHECK(lab.order() == "b? c a");
  CHECK(lab.order() == "c a b");
}

TEST_CASE("proxy pool: the back-off doubles with each failed trial, up to a minute") {
  Lab lab(abc());
  lab.fails(0);
  std::uint64_t expected = 1000;
  for (int trial = 0; trial < 10; ++trial) {
    CAPTURE(trial);
    CHECK(lab.pool.health(lab.now)[0].next_trial_ms == expected);
    lab.now += expected - 1;
    CHECK(lab.order() == "b c a");
    lab.now += 1;
    CHECK(lab.order() == "a? b c");
    lab.fails(0);
    expected = std::min<std::uint64_t>(expected * 2, 60'000);
  }
  lab.now += expected;
  CHECK(lab.order() == "a? b c");
  lab.answers(0);
  lab.now += 1;
  lab.fails(0);
  CHECK(lab.pool.health(lab.now)[0].next_trial_ms == 1000);  // it begins anew
}

TEST_CASE("proxy pool: many connects that fail at once are one failure") {
  Lab lab(abc());
  for (int i = 0; i < 100; ++i) lab.fails(0);
  CHECK(lab.pool.health(lab.now)[0].failures == 1);
  CHECK(lab.pool.health(lab.now)[0].next_trial_ms == 1000);
}

TEST_CASE("proxy pool: old evidence does not count against newer") {
  Lab lab(abc());
  const ProxyUrl& a = lab.policy.http[0];
  lab.pool.reached(a, 200);
  lab.pool.unreachable(a, "no answer in time", nullptr, 150, 5150);
  CHECK(lab.order() == "a b c");
  lab.pool.unreachable(a, "refused", nullptr, 300, lab.now);
  lab.pool.reached(a, 300);  // what it said just before it ended
  lab.pool.reached(a, 250);
  CHECK(lab.order() == "b c a");
  lab.pool.reached(a, 301);
  CHECK(lab.order() == "a b c");
}

TEST_CASE("proxy pool: a line when a proxy is unreachable, one when it is back, none in between") {
  Lab lab(abc());
  lab.fails(1, "cannot connect to the proxy: Connection refused");
  std::string log = lab.log();
  CHECK(log.find("level=warning event=proxy_unreachable") != std::string::npos);
  CHECK(log.find("proxy=socks5://b:1080") != std::string::npos);
  CHECK(log.find("instead=https://c:443") != std::string::npos);
  CHECK(log.find("secret") == std::string::npos);
  lab.fails(1);
  lab.now += 1000;
  (void)lab.order();
  lab.fails(1);
  CHECK(lab.log().empty());
  lab.now += 1;
  lab.answers(1);
  log = lab.log();
  CHECK(log.find("event=proxy_back proxy=socks5://b:1080") != std::string::npos);
  lab.answers(1);
  CHECK(lab.log().empty());
}

TEST_CASE("proxy pool: a single proxy has its health, and is no news") {
  Lab lab({proxy("http://a")});
  lab.fails(0);
  CHECK(lab.order() == "a");
  CHECK_FALSE(lab.pool.health(lab.now)[0].healthy);
  lab.now += 1;
  lab.answers(0);
  CHECK(lab.pool.health(lab.now)[0].healthy);
  CHECK(lab.log().empty());
}

TEST_CASE("proxy pool: health for the operator") {
  Lab lab(abc(), {proxy("https://c"), proxy("http://d")});
  lab.fails(2, "the proxy's name does not resolve");
  lab.now += 250;
  const auto all = lab.pool.health(lab.now);
  REQUIRE(all.size() == 4);
  CHECK(all[0].lists == "http");
  CHECK(all[1].proxy == "socks5://b:1080");
  CHECK(all[2].proxy == "https://c:443");
  CHECK(all[2].lists == "http, all");
  CHECK_FALSE(all[2].healthy);
  CHECK(all[2].failures == 1);
  CHECK(all[2].cause == "the proxy's name does not resolve");
  CHECK(all[2].next_trial_ms == 750);
  CHECK(all[3].lists == "all");
  CHECK(all[3].next_trial_ms == 0);
}

TEST_CASE("proxy pool: health outlives a change of the configuration") {
  Lab lab(abc());
  lab.fails(0);
  lab.fails(1);
  const Policy old = lab.policy;
  lab.policy.http = {proxy("http://n"), proxy("http://a"), proxy("socks5://u:changed@b")};
  lab.pool.adopt(lab.policy);
  CHECK(lab.order() == "n a b");
  CHECK(lab.pool.health(lab.now)[1].failures == 1);
  CHECK(lab.pool.health(lab.now).size() == 3);
  lab.pool.unreachable(old.http[2], "refused", nullptr, lab.now, lab.now);  // of an attempt under the old one
  lab.pool.let_go(old.http[2]);
  CHECK(lab.pool.health(lab.now).size() == 3);
  lab.now += 1000;
  CHECK(lab.order() == "n a? b");
}
