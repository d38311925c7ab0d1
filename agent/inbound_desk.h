// Inbound for the programs that have the preload library: asks in, answers out.
#pragma once

#include <unordered_map>

#include "agent/conversation.h"
#include "agent/inbound.h"

namespace towpath {

class InboundDesk final : Answerer {
 public:
  explicit InboundDesk(Inbound& inbound) : inbound_(inbound) {}

  // clients, sweep, hold, claim
  void on_ask(Conversation& talk, const wire::Message& ask, std::vector<UniqueFd> descriptors);
  // The conversation ends, in whichever way: what was handed out and not taken is the next accept's.
  void on_over(Conversation& talk);

 private:
  void on_message(Conversation& talk, const wire::Message& message) override;
  void on_asker_gone(Conversation& talk) override { on_over(talk); }
  void on_claim(Conversation& talk, const wire::ClaimAsk& ask);

  Inbound& inbound_;
  std::unordered_map<Conversation*, Inbound::Ready> handed_out_;
};

}  // namespace towpath
