// A listening socket in the loop. Where no descriptor is free for what waits there, it is left alone for a moment: it
// would wake the loop without end.
#pragma once

#include <functional>

#include "agent/uv.h"
#include "base/endpoint.h"
#include "base/unique_fd.h"

namespace towpath {

class Acceptor {
 public:
  // Borrows the listener, which must stay open as long as this is.
  [[nodiscard]] bool open(uv_loop_t* loop, int listener, std::function<void()> ready);
  void close() noexcept;
  // The next connection, non-blocking and closed on exec; none: no more for now. `peer` may be null.
  [[nodiscard]] UniqueFd next(Endpoint* peer);
  // Did the last next() find no descriptor?
  [[nodiscard]] bool full() const noexcept { return full_; }

 private:
  static constexpr std::uint64_t breath_ms = 20;

  void watch();

  uv_loop_t* loop_ = nullptr;
  int listener_ = -1;
  std::function<void()> ready_;
  UvPoll poll_;
  UvTimer breather_;
  bool full_ = false;
};

}  // namespace towpath
