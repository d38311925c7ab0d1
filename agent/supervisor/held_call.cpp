#include "agent/supervisor/held_call.h"

#include <algorithm>
#include <cerrno>

#include "agent/attempt.h"
#include "agent/supervisor/tasks.h"
#include "agent/supervisor/patience.h"

namespace towpath {

namespace {

constexpr int restart_after_signal = 512;  // ERESTARTSYS: the kernel's own, which a program never sees

}  // namespace

void HeldCall::add(const Notice& notice, uv_loop_t* loop, const timeval& patience) {
  waiting_.push_back(notice);
  start_patience(patience_, loop, patience, this,
                 [](uv_timer_t* handle) { static_cast<HeldCall*>(handle->data)->time_out(); });
}

// As in the kernel: the call ends, the attempt goes on.
void HeldCall::time_out() {
  for (const Notice& each : waiting_) each.fail(EINPROGRESS);
  waiting_.clear();
  detach();
}

void HeldCall::detach() {
  attempt_.set_caller(nullptr);
  host_.on_released(*this);
}

void HeldCall::look_for_signals() {
  std::erase_if(waiting_, [](const Notice& each) {
    if (!each.valid()) {
      each.fail(EINTR);  // nobody hears it; the notice is forgotten
      return true;
    }
    if (!signal_waits(each.tid)) return false;
    each.fail(restart_after_signal);
    return true;
  });
  if (waiting_.empty()) detach();
}

void HeldCall::on_tree_ended(const Listener& listener) {
  std::erase_if(waiting_, [&](const Notice& each) {
    if (each.from == &listener) each.fail(EINTR);  // nobody hears it; the notice is forgotten
    return each.from == &listener;
  });
  if (waiting_.empty()) detach();
}

void HeldCall::verdict(int error) {
  for (const Notice& each : waiting_) each.done(error);
  waiting_.clear();
  host_.on_released(*this);
}

void HeldCall::abandoned() {
  for (const Notice& each : waiting_) each.fail(EINTR);  // nobody hears it; the notices are forgotten
  waiting_.clear();
  host_.on_released(*this);
}

bool HeldCall::still_there() const {
  return std::any_of(waiting_.begin(), waiting_.end(), [](const Notice& each) { return each.valid(); });
}

}  // namespace towpath
