// The part of an attempt that goes the other way to port 80: no tunnel, but a relay that asks per request.
#include "agent/attempt.h"
#include "agent/plain_relays.h"

namespace towpath {

// The proxy refuses to tunnel port 80: the same connect() goes on, with another connection to where it was reached.
bool Attempt::ask_in_absolute_form() {
  if (std::holds_alternative<Socks5Client>(machine_) ||
      !host_.plain().on_refusal(*order_.policy, *order_.proxy, order_.ask.target.port, status()))
    return false;
  stop_watching();
  if (!relayed_) leave_the_proxy();
  tls_.reset();
  own_.reset();
  machine_.emplace<std::monostate>();
  absolute_ = relayed_ = fell_back_ = true;
  candidates_ = {dialled_};
  next_ = 0;
  return true;
}

void Attempt::relay_in_absolute_form(UniqueFd program_end) {
  host_.plain().relay({order_.policy, order_.proxy, dialled_, order_.name, order_.ask.target, order_.asker,
                       std::move(program_end), std::move(own_), std::move(tls_)});
}

}  // namespace towpath
