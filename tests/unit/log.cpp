// Log lines: both formats, what does not fit, and how often one kind is written. The limiter's clock is driven by hand.
#include "agent/log.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <vector>

#include "base/unique_fd.h"

using namespace towpath;

namespace {

// Log writes to what is no socket and can take bytes: a memfd.
struct Sink {
  UniqueFd fd{memfd_create("log", 0)};
  [[nodiscard]] std::vector<std::string> lines() const {
    std::string text(static_cast<std::size_t>(lseek(fd.get(), 0, SEEK_END)), '\0');
    CHECK(pread(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
    std::vector<std::string> out;
    for (std::size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1)
      out.push_back(text.substr(at, end - at));
    return out;
  }
};

}  // namespace

TEST_CASE("log: key=value, without a time unless it is asked for") {
  Sink sink;
  LogLine(Log(sink.fd.get(), Level::warning), Level::error, "e").about(7).add("target", "a b\"c");
  LogLine(Log(sink.fd.get(), Level::warning), Level::info, "not wanted").add("x", "y");
  LogLine(Log(sink.fd.get(), Level::warning, LogFormat::text, true), Level::warning, "e");
  const auto lines = sink.lines();
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == "towpath: level=error event=e pid=7 target=\"a b\\\"c\"");
  CHECK(lines[1].find("towpath: ts=20") == 0);
  CHECK(utc_text(1764003800123) == "2025-11-24T17:03:20.123Z");
}

TEST_CASE("log: JSON is one object per line, whatever the values hold") {
  Sink sink;
  const std::string nasty = "\"\\\n\x01\xff end";
  LogLine(Log(sink.fd.get(), Level::debug, LogFormat::json), Level::error, "e").add("n", 5).add("nasty", nasty);
  LogLine(Log(sink.fd.get(), Level::debug, LogFormat::json), Level::error, "e")
      .add("long", std::string(5000, '"'))
      .add("after", "it");
  const auto lines = sink.lines();
  REQUIRE(lines.size() == 2);
  const YAML::Node first = YAML::Load(lines[0]), second = YAML::Load(lines[1]);
  CHECK(first["ts"].as<std::string>().size() == 24);
  CHECK(first["level"].as<std::string>() == "error");
  CHECK(first["n"].as<int>() == 5);
  CHECK(first["nasty"].as<std::string>() == "\"\\\n\x01\xef\xbf\xbd end");
  CHECK_FALSE(second["long"].IsDefined());  // left out: it does not fit into one write
  CHECK(second["after"].as<std::string>() == "it");
}

TEST_CASE("log limit: a burst per kind and window, and every line that is left out is told exactly once") {
  LogLimit limit;
  const LogLimit::Kind one{"e", "a:1", "denied", 0, 0}, other{"e", "b:1", "denied", 0, 0};
  std::uint64_t now = 1000;
  for (unsigned i = 0; i < LogLimit::burst; ++i) CHECK(limit.admit(one, now++).write);
  const auto sixth = limit.admit(one, now);
  CHECK_FALSE(sixth.write);
  CHECK(sixth.first_suppressed);
  CHECK_FALSE(limit.admit(one, now).first_suppressed);
  CHECK(limit.admit(other, now).write);
  CHECK(limit.pending());
  CHECK(limit.overdue(now).empty());
  // The next line after the window's end tells it ...
  now = 1000 + LogLimit::window_ms;
  const auto next = limit.admit(one, now);
  CHECK(next.write);
  CHECK(next.suppressed == 2);
  CHECK_FALSE(limit.pending());
  // ... or the end of the window itself, when no line comes.
  for (unsigned i = 0; i < LogLimit::burst + 4; ++i) (void)limit.admit(one, now);
  CHECK(limit.overdue(now + LogLimit::window_ms - 1).empty());
  const auto told = limit.overdue(now + LogLimit::window_ms);
  REQUIRE(told.size() == 1);
  CHECK(told[0].kind == one);
  CHECK(told[0].suppressed == 5);
  CHECK(limit.overdue(now + LogLimit::window_ms).empty());
  CHECK(limit.admit(one, now + LogLimit::window_ms).suppressed == 0);
  CHECK(limit.total() == 7);
}

TEST_CASE("log limit: more kinds than there is room for are written all the same") {
  LogLimit limit;
  for (unsigned i = 0; i < 2 * LogLimit::most_kinds; ++i)
    CHECK(limit.admit({"e", std::to_string(i), "", 0, 0}, 5).write);
  // Those of a window that has ended make room again.
  const LogLimit::Kind late{"late", "", "", 0, 0};
  for (unsigned i = 0; i < LogLimit::burst; ++i) CHECK(limit.admit(late, 6 + LogLimit::window_ms).write);
  CHECK_FALSE(limit.admit(late, 6 + LogLimit::window_ms).write);
}

TEST_CASE("log: the limit is for errors and warnings, per kind, and not at level debug") {
  const auto count = [](Level most, Level level) {
    Sink sink;
    const Log log(sink.fd.get(), most);
    int calls = 0;
    log.on_suppressed([&] { ++calls; });
    for (int i = 0; i < 50; ++i) LogLine(log, level, "e").add("target", "a:1").add("cause", "denied").add("n", i);
    const bool limited = sink.lines().size() == LogLimit::burst;
    CHECK(calls == (limited ? 1 : 0));
    CHECK(log.suppressed() == (limited ? 50 - LogLimit::burst : 0));
    log.tell_suppressed(true);
    if (limited) CHECK(sink.lines().back().find("event=e target=a:1 cause=denied suppressed=30") != std::string::npos);
    return sink.lines().size();
  };
  CHECK(count(Level::warning, Level::error) == LogLimit::burst + 1);
  CHECK(count(Level::info, Level::warning) == LogLimit::burst + 1);
  CHECK(count(Level::info, Level::info) == 50);
  CHECK(count(Level::debug, Level::error) == 50);
}
