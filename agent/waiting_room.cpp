#include "agent/waiting_room.h"

#include <algorithm>

namespace towpath {

bool WaitingRoom::Less::operator()(const IpAddress& a, const IpAddress& b) const noexcept {
  const auto left = a.bytes(), right = b.bytes();
  return std::lexicographical_compare(left.begin(), left.end(), right.begin(), right.end());
}

void WaitingRoom::enter(Guest& guest, const IpAddress& source) {
  leave(guest);
  if (guests_.size() >= bounds_.total) turn_out(guests_.begin());
  if (const auto at = sources_.find(source); at != sources_.end() && at->second >= bounds_.per_source)
    turn_out(std::find_if(guests_.begin(), guests_.end(), [&](const Entry& each) { return each.source == source; }));
  guests_.push_back({&guest, source, uv_now(loop_) + bounds_.patience_ms});
  guest.place_ = std::prev(guests_.end());
  ++sources_[source];
  if (!timing_) look();
}

void WaitingRoom::leave(Guest& guest) noexcept {
  if (!guest.place_) return;
  const auto at = *guest.place_;
  guest.place_.reset();
  if (const auto source = sources_.find(at->source); source != sources_.end() && --source->second == 0)
    sources_.erase(source);
  guests_.erase(at);
}

void WaitingRoom::turn_out(std::list<Entry>::iterator at) {
  if (at == guests_.end()) return;
  Guest* const guest = at->guest;
  leave(*guest);
  guest->on_waited_too_long();
}

// One timer for all: whoever is first is the next to go. It is not moved when he leaves earlier.
void WaitingRoom::look() {
  timing_ = false;
  while (!guests_.empty() && guests_.front().until_ms <= uv_now(loop_)) turn_out(guests_.begin());
  if (guests_.empty() || timing_) return;
  timing_ = true;
  if (!timer_) timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
  uv_timer_start(
      timer_.get(), [](uv_timer_t* handle) { static_cast<WaitingRoom*>(handle->data)->look(); },
      guests_.front().until_ms - uv_now(loop_), 0);
}

}  // namespace towpath
