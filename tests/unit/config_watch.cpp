#include "launcher/config_watch.h"
#include "tests/unit/scratch.h"

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "config/reconsider.h"

#include <unistd.h>

using namespace towpath;
namespace fs = std::filesystem;

namespace {

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

bool leads_through(const std::vector<WatchedPlace>& way, const std::string& directory, const std::string& name) {
  for (const WatchedPlace& each : way)
    if (each == WatchedPlace{directory, name}) return true;
  return false;
}

// Runs the loop until the watch has called, or the deadline has come.
struct Watched {
  uv_loop_t loop{};
  int calls = 0;
  std::unique_ptr<ConfigWatch> watch;

  explicit Watched(const std::string& file) {
    uv_loop_init(&loop);
    watch = std::make_unique<ConfigWatch>(&loop, [this] {
      ++calls;
      uv_stop(&loop);
    });
    arm(file);
  }
  ~Watched() {
    watch.reset();
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
  }
  void arm(const std::string& file) {
    std::string why;
    REQUIRE_MESSAGE(watch->watch({file}, why), why);
  }
  bool noticed(std::uint64_t deadline_ms = 10'000) {
    const int before = calls;
    UvTimer timer;
    timer.open(this, [&](uv_timer_t* handle) { return uv_timer_init(&loop, handle); });
    uv_timer_start(
        timer.get(), [](uv_timer_t* handle) { uv_stop(handle->loop); }, deadline_ms, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    return calls > before;
  }
};

}  // namespace

TEST_CASE("config watch: the way to a file goes through its links") {
  const TempDirectory at;
  fs::create_directory(at / "..1");
  write(at / "..1/values.yaml", "x");
  fs::create_symlink("..1", at / "..data");
  fs::create_symlink("..data/values.yaml", at / "values.yaml");
  const auto way = way_to(at / "values.yaml");
  CHECK(leads_through(way, at.path(), "values.yaml"));
  CHECK(leads_through(way, at.path(), "..data"));
  CHECK(way.back() == WatchedPlace{at / "..1", "values.yaml"});
  CHECK(leads_through(way, "/", "tmp"));
}

TEST_CASE("config watch: links that lead round end, what is missing ends the way") {
  const TempDirectory at;
  fs::create_symlink("b", at / "a");
  fs::create_symlink("a", at / "b");
  CHECK(leads_through(way_to(at / "a"), at.path(), "b"));
  CHECK(way_to(at / "none/values.yaml").back() == WatchedPlace{at.path(), "none"});
}

TEST_CASE("config watch: what is noticed") {
  const TempDirectory at;
  const std::string file = at / "d/values.yaml";
  fs::create_directory(at / "d");
  write(file, "one");
  Watched watched(file);
  SUBCASE("written in place") { write(file, "two"); }
  SUBCASE("renamed over") {
    write(at / "d/new", "two");
    fs::rename(at / "d/new", file);
  }
  SUBCASE("taken away") { fs::remove(file); }
  SUBCASE("its directory exchanged") {
    fs::create_directory(at / "e");
    write(at / "e/values.yaml", "two");
    fs::rename(at / "d", at / "old");
    fs::rename(at / "e", at / "d");
  }
  SUBCASE("written through another name of it, as a mounted file is") {
    fs::create_hard_link(file, at / "other");
    watched.arm(file);
    write(at / "other", "two");
  }
  SUBCASE("appearing together with its directory") {
    fs::remove_all(at / "d");
    watched.arm(file);
    fs::create_directory(at / "d");
    CHECK(watched.noticed());
    watched.arm(file);
    write(file, "two");
  }
  CHECK(watched.noticed());
}

TEST_CASE("config watch: its neighbours are none of its business") {
  const TempDirectory at;
  write(at / "values.yaml", "one");
  Watched watched(at / "values.yaml");
  write(at / "other.yaml", "two");
  CHECK_FALSE(watched.noticed(500));
}

TEST_CASE("reconsider: one line stays one line") {
  const std::string line = in_one_line(std::vector<std::string>(1000, "proxy.exempt: added something.example"));
  CHECK(line.size() < 2000);
  CHECK(line.find(" more") != std::string::npos);
}
