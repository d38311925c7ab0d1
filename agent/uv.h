// Owned libuv handles: closing is asynchronous, so each handle lives in its own allocation until libuv lets go of it.
// Callbacks get the object that was given as `context`; none comes after the owner is destroyed.
#pragma once

#include <utility>

#include <uv.h>

namespace towpath {

template <class Handle>
class UvHandle {
 public:
  UvHandle() = default;
  UvHandle(UvHandle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  UvHandle& operator=(UvHandle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~UvHandle() { reset(); }

  // `init(handle)` is uv_timer_init and the like with its arguments bound; false when it fails.
  template <class Init>
  bool open(void* context, Init&& init) {
    reset();
    auto* fresh = new Handle;
    if (init(fresh) != 0) {
      delete fresh;  // a failed init has not registered the handle with the loop
      return false;
    }
    fresh->data = context;
    handle_ = fresh;
    return true;
  }
  void reset() noexcept {
    if (handle_ == nullptr) return;
    uv_close(reinterpret_cast<uv_handle_t*>(handle_),
             [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
    handle_ = nullptr;
  }
  [[nodiscard]] Handle* get() const noexcept { return handle_; }
  explicit operator bool() const noexcept { return handle_ != nullptr; }

 private:
  Handle* handle_ = nullptr;
};

using UvTimer = UvHandle<uv_timer_t>;
using UvPoll = UvHandle<uv_poll_t>;
using UvSignal = UvHandle<uv_signal_t>;

}  // namespace towpath
