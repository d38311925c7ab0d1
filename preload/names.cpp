#include "preload/names.h"

#include <cstring>

#include "preload/ask.h"
#include "preload/process.h"

namespace towpath {

bool needs_no_answer(std::string_view name) noexcept {
  return control() == nullptr || name.empty() || name.size() > wire::max_name || name == "localhost" ||
         IpAddress::parse(name);
}

void ask_name(std::string_view name, int family, NameAnswer& out) noexcept {
  out.kind = NameAnswer::Kind::refused;
  out.candidate_count = 0;
  Conversation talk;
  wire::Message ask{};
  wire::Reply reply;
  ask.kind = wire::Ask::name;
  ask.name = {family, name};
  if (!talk.say(ask) || talk.hear(reply, false) != Conversation::Heard::reply) return;
  if (reply.kind == wire::Answer::own) {
    out.kind = NameAnswer::Kind::own;
    return;
  }
  if (reply.kind != wire::Answer::synthetic) return;
  out.kind = NameAnswer::Kind::synthetic;
  out.v4 = reply.v4;
  out.v6 = reply.v6;
  for (std::size_t i = 0; i < reply.candidate_count; ++i) {
    char* to = out.candidates[out.candidate_count++];
    std::memcpy(to, reply.candidates[i].data(), reply.candidates[i].size());
    to[reply.candidates[i].size()] = '\0';
  }
}

void learn_name(std::string_view name, std::span<const IpAddress> addresses) noexcept {
  if (addresses.empty() || needs_no_answer(name)) return;
  Conversation talk;
  wire::Message ask{};
  wire::Reply reply;
  ask.kind = wire::Ask::learn;
  ask.learn.name = name;
  for (const IpAddress& address : addresses) {
    if (ask.learn.count == wire::max_learnt) break;
    ask.learn.addresses[ask.learn.count++] = address;
  }
  // The answer is awaited so that a connect that follows at once is judged with the name.
  if (talk.say(ask)) (void)talk.hear(reply, false);
}

bool name_of_synthetic(const IpAddress& address, std::span<char, wire::max_name + 1> out) noexcept {
  if (control() == nullptr) return false;
  const Page* known = page();
  if (known == nullptr || !is_synthetic(*known, address)) return false;
  Conversation talk;
  wire::Message ask{};
  wire::Reply reply;
  ask.kind = wire::Ask::reverse;
  ask.reverse = address;
  if (!talk.say(ask) || talk.hear(reply, false) != Conversation::Heard::reply || reply.kind != wire::Answer::name)
    return false;
  std::memcpy(out.data(), reply.name.data(), reply.name.size());
  out[reply.name.size()] = '\0';
  return true;
}

}  // namespace towpath
