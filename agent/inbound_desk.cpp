#include "agent/inbound_desk.h"

#include <sys/socket.h>

namespace towpath {

namespace {

bool is_tcp_connection(int fd) noexcept {
  // Whether it is connected, and to an IP address, shows when its ends are looked at.
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

}  // namespace

void InboundDesk::on_ask(Conversation& talk, const wire::Message& ask, std::vector<UniqueFd> descriptors) {
  switch (ask.kind) {
    case wire::Ask::clients: {
      if (!inbound_.clients().ok()) return talk.answer(wire::Answer::refuse, ENOENT);
      wire::Reply reply;
      reply.kind = wire::Answer::page;
      return talk.answer(reply, inbound_.clients().fd());
    }
    case wire::Ask::sweep: inbound_.clients().sweep(); return talk.answer(wire::Answer::done);
    case wire::Ask::hold:
      if (descriptors.size() == 1 && is_tcp_connection(descriptors[0].get()))
        inbound_.hold(std::move(descriptors[0]), ask.hold.listener);
      return talk.end();
    case wire::Ask::claim: return on_claim(talk, ask.claim);
    default: return talk.end();
  }
}

void InboundDesk::on_claim(Conversation& talk, const wire::ClaimAsk& ask) {
  std::optional<Inbound::Ready> ready;
  if (!ask.bell.address) ready = inbound_.next_ready(ask.listener);
  else if (!inbound_.answer_bell(ask.bell, ready)) return talk.answer(wire::Answer::own);
  if (!ready) return talk.answer(wire::Answer::done);
  wire::Reply reply;
  reply.kind = wire::Answer::accepted;
  reply.endpoint = ready->client;
  reply.peer = ready->peer;
  talk.set_answerer(this);
  const int socket = ready->socket.get();
  handed_out_.emplace(&talk, std::move(*ready));
  talk.say(reply, socket);
}

void InboundDesk::on_message(Conversation& talk, const wire::Message& message) {
  const auto at = handed_out_.find(&talk);
  if (message.kind == wire::Ask::took && at != handed_out_.end()) {
    inbound_.delivered(std::move(at->second));
    handed_out_.erase(at);
  }
  talk.end();
}

void InboundDesk::on_over(Conversation& talk) {
  const auto at = handed_out_.find(&talk);
  if (at == handed_out_.end()) return;
  Inbound::Ready ready = std::move(at->second);
  handed_out_.erase(at);
  inbound_.give_back(std::move(ready));
}

}  // namespace towpath
