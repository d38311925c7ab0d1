// A connect() that waits for the verdict: one socket, and every thread (or restarted call) that waits for it.
//
// A signal ends such a call in the kernel, which restarts it or not as the handler wants; the attempt goes on without
// it. Not below a Go program, whose filter lets only fatal signals through: there somebody looks from time to time
// whether a signal waits, and releases the call as the kernel would.
#pragma once

#include <vector>

#include <sys/time.h>

#include "agent/caller.h"
#include "agent/supervisor/listener.h"
#include "agent/uv.h"

namespace towpath {

class Attempt;

class HeldCall final : public Caller {
 public:
  class Host {
   public:
    virtual void on_released(HeldCall& call) = 0;  // nothing waits in it any more

   protected:
    ~Host() = default;
  };

  HeldCall(Host& host, Attempt& attempt, std::uint64_t cookie) : host_(host), attempt_(attempt), cookie_(cookie) {}
  // `patience`: the socket's SO_SNDTIMEO, zero is for ever.
  void add(const Notice& notice, uv_loop_t* loop, const timeval& patience);
  [[nodiscard]] std::uint64_t cookie() const noexcept { return cookie_; }

  // Lets go of calls that a signal waits for, or whose threads have gone. May release itself.
  void look_for_signals();
  void on_tree_ended(const Listener& listener);

  void verdict(int error) override;
  void abandoned() override;
  bool dial(const Endpoint&) override { return false; }
  [[nodiscard]] bool still_there() const override;

 private:
  void time_out();
  void detach();

  Host& host_;
  Attempt& attempt_;
  std::uint64_t cookie_;
  std::vector<Notice> waiting_;
  UvTimer patience_;
};

}  // namespace towpath
