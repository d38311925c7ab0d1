#include "base/preload_list.h"

#include <string>

#include <doctest/doctest.h>

using namespace towpath;

namespace {

std::string listed(std::string_view list, std::string_view runtime = {}) {
  char out[256];
  return {out, preload_list(out, list, "/x/ours.so", runtime)};
}

}  // namespace

TEST_CASE("preload list: in front of what others want, and left where it is") {
  CHECK(listed("") == "/x/ours.so");
  CHECK(listed("a.so:b.so") == "/x/ours.so:a.so:b.so");
  CHECK(listed("a.so b.so") == "/x/ours.so:a.so b.so");
  CHECK(listed("::a.so: ") == "/x/ours.so:::a.so: ");
  CHECK(listed("a.so:/x/ours.so  b.so") == "a.so:/x/ours.so  b.so");
}

TEST_CASE("preload list: behind a runtime that the program is linked to, and without it for what is not") {
  const std::string with = listed("/x/ours.so:a.so", "libasan.so.8");
  CHECK(with == "libasan.so.8::/x/ours.so:a.so");
  CHECK(listed(with, "libasan.so.8") == with);
  CHECK(listed(with) == "/x/ours.so:a.so");
  CHECK(listed(with, "libasan.so.6") == "libasan.so.6::/x/ours.so:a.so");
  CHECK(listed("a.so", "libasan.so.8") == "libasan.so.8::/x/ours.so:a.so");
}

TEST_CASE("preload list: behind a runtime that somebody else has put there, which stays") {
  for (const char* runtime : {"", "libasan.so.8"}) {
    CHECK(listed("/usr/lib/libasan.so.8:a.so", runtime) == "/usr/lib/libasan.so.8:/x/ours.so:a.so");
    CHECK(listed("/x/ours.so:libasan.so", runtime) == "libasan.so:/x/ours.so");
    CHECK(listed("a.so:libclang_rt.asan-x86_64.so:/x/ours.so", runtime) ==
          "a.so:libclang_rt.asan-x86_64.so:/x/ours.so");
  }
  // One separator: that is no entry of ours.
  CHECK(listed("libasan.so.8:/x/ours.so") == "libasan.so.8:/x/ours.so");
}

TEST_CASE("preload list: names that only look like such a runtime") {
  CHECK_FALSE(insists_on_being_first("/libasan.so/other.so"));
  CHECK_FALSE(insists_on_being_first("mylibasan.so"));
  CHECK_FALSE(insists_on_being_first(""));
  CHECK(insists_on_being_first("/a/b/libasan.so.8"));
}

TEST_CASE("preload list: no room is no list") {
  char out[12];
  CHECK(preload_list(out, "", "/x/ours.so", "") == 10);
  CHECK(preload_list(out, "a.so", "/x/ours.so", "") == 0);
  CHECK(preload_list({}, "", "/x/ours.so", "") == 0);
}
