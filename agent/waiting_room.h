// Connections whose first bytes have not come: bounded in total and per source, each for the same time.
//
// A guest that is over its time, or that has to make room (the oldest of its source, or of all), is told and must
// leave.
#pragma once

#include <list>
#include <map>
#include <optional>

#include "agent/uv.h"
#include "base/endpoint.h"

namespace towpath {

class WaitingRoom {
  struct Entry;

 public:
  class Guest {
   public:
    // The guest has left already when this is called.
    virtual void on_waited_too_long() = 0;

   protected:
    ~Guest() = default;

   private:
    friend class WaitingRoom;
    std::optional<std::list<Entry>::iterator> place_;
  };

  struct Bounds {
    std::size_t total = 4096, per_source = 1024;
    std::uint64_t patience_ms = 5000;
  };
  WaitingRoom(uv_loop_t* loop, Bounds bounds) : loop_(loop), bounds_(bounds) {}

  // For those who enter from now on. One who has less time than others before him still waits for their turn.
  void set_patience(std::uint64_t ms) noexcept { bounds_.patience_ms = ms; }
  // Its time begins now, also when it was there already.
  void enter(Guest& guest, const IpAddress& source);
  void leave(Guest& guest) noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return guests_.size(); }

 private:
  struct Entry {
    Guest* guest;
    IpAddress source;
    std::uint64_t until_ms;
  };
  struct Less {
    bool operator()(const IpAddress& a, const IpAddress& b) const noexcept;
  };
  void turn_out(std::list<Entry>::iterator at);
  void look();

  uv_loop_t* loop_;
  Bounds bounds_;
  std::list<Entry> guests_;  // in the order in which their time ends
  std::map<IpAddress, std::size_t, Less> sources_;
  UvTimer timer_;
  bool timing_ = false;
};

}  // namespace towpath
