// What would become of a connection that begins with these bytes: the decisions of accept() and of the HTTP mode, with
// the same code, without a socket.
#pragma once

#include <string>
#include <string_view>

#include "config/inbound.h"

namespace towpath {

struct InboundExplanation {
  enum class Action : std::uint8_t {
    accept,       // the program gets it, shown as `client`
    passthrough,  // the program gets it untouched, shown as its peer
    close,        // nobody sees it
    refuse,       // answered with 400, and closed
  };
  Action action = Action::accept;
  Endpoint client;
  std::string reason;
  bool has_head = false;
  std::string forwarded_head;  // what the program gets of a request
};

[[nodiscard]] InboundExplanation explain_inbound(const ReverseSettings& settings, const InboundRule& rule,
                                                 const Endpoint& peer, std::string_view bytes);

[[nodiscard]] std::string inbound_text(const InboundExplanation& explanation);
// {"action":"accept","client":"192.0.2.1","port":0,"reason":"...","forwarded_head":"..."}; the last for requests only.
[[nodiscard]] std::string inbound_json(const InboundExplanation& explanation);

}  // namespace towpath
