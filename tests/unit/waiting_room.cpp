#include "agent/waiting_room.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace towpath;

namespace {

struct Guest final : WaitingRoom::Guest {
  Guest(WaitingRoom& room, std::string& turned_out, char name, const char* source)
      : room_(room), turned_out_(turned_out), name_(name), source_(IpAddress::parse(source)) {}
  ~Guest() { room_.leave(*this); }
  void enter() { room_.enter(*this, source_); }
  void on_waited_too_long() override { turned_out_ += name_; }
  WaitingRoom& room_;
  std::string& turned_out_;
  char name_;
  IpAddress source_;
};

}  // namespace

TEST_CASE("waiting room: the oldest of a crowded source makes room, then the oldest of all; others leave on time") {
  uv_loop_t loop;
  uv_loop_init(&loop);
  std::string out;
  {
    WaitingRoom room(&loop, {3, 2, 1});
    Guest a(room, out, 'a', "192.0.2.1"), b(room, out, 'b', "192.0.2.2"), c(room, out, 'c', "192.0.2.1"),
        d(room, out, 'd', "192.0.2.1"), e(room, out, 'e', "192.0.2.3"), f(room, out, 'f', "192.0.2.4");
    a.enter(), b.enter(), c.enter(), d.enter();
    CHECK(out == "a");
    e.enter();
    CHECK(out == "ab");
    CHECK(room.size() == 3);
    room.leave(d);
    room.leave(d);
    f.enter();
    CHECK(out == "ab");
    c.enter();  // again: the last now
    while (room.size() != 0) uv_run(&loop, UV_RUN_ONCE);
    CHECK(out == "abefc");
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}
