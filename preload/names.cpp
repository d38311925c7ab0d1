#include "preload/names.h"

#include <cerrno>
#include <cstring>
#include <ctime>

#include <netdb.h>

#include "preload/ask.h"
#include "preload/process.h"
#include "preload/real.h"

namespace towpath {

namespace {

// "127.1", "0x7f000001" and "fe80::1%eth0" are numbers too: libc is asked, which looks nothing up for this.
bool is_number(const char* name) noexcept {
  if (IpAddress::parse(name)) return true;
  if ((*name < '0' || *name > '9') && std::strchr(name, ':') == nullptr) return false;
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST;
  addrinfo* found = nullptr;
  if (real().getaddrinfo(name, nullptr, &hints, &found) != 0) return false;
  freeaddrinfo(found);
  return true;
}

std::int64_t now_ms() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

void take_synthetic(const wire::Reply& reply, NameAnswer& out) noexcept {
  out.kind = NameAnswer::Kind::synthetic;
  out.v4 = reply.v4;
  out.v6 = reply.v6;
  for (std::size_t i = 0; i < reply.candidate_count; ++i) {
    char* to = out.candidates[out.candidate_count++];
    std::memcpy(to, reply.candidates[i].data(), reply.candidates[i].size());
    to[reply.candidates[i].size()] = '\0';
  }
}

}  // namespace

bool needs_no_answer(const char* name) noexcept {
  return !active() || *name == '\0' || std::strcmp(name, "localhost") == 0 || is_number(name);
}

void ask_name(const char* name, int family, NameAnswer& out) noexcept {
  out.kind = NameAnswer::Kind::refused;
  out.candidate_count = 0;
  out.unusable = std::strlen(name) > wire::max_name;
  for (int i = 0; i < most_agents && !out.unusable; ++i) {
    Conversation talk;
    wire::Message ask{};
    wire::Reply reply;
    ask.kind = wire::Ask::name;
    ask.name = {family, name};
    if (!talk.say(ask) || talk.hear(reply, false) != Conversation::Heard::reply) continue;
    if (reply.kind == wire::Answer::own) out.kind = NameAnswer::Kind::own;
    if (reply.kind == wire::Answer::refuse) out.unusable = reply.number == ENOENT;
    if (reply.kind == wire::Answer::synthetic) take_synthetic(reply, out);
    return;
  }
}

CandidateSearch::CandidateSearch(int family) noexcept : family_(family), began_ms_(now_ms()) {}

CandidateSearch::Next CandidateSearch::after(const char* candidate, bool again, bool no_data) const noexcept {
  constexpr std::int64_t silence_ms = 1000;
  if (again && now_ms() - began_ms_ >= silence_ms) return Next::give_up;
  // musl before 1.2.4 says of a name without IPv6 that it does not exist.
  if (family_ == AF_UNSPEC || !(no_data || family_ == AF_INET6)) return Next::go_on;
  addrinfo hints{};
  hints.ai_family = family_ == AF_INET6 ? AF_INET : AF_INET6;
  addrinfo* found = nullptr;
  if (real().getaddrinfo(candidate, nullptr, &hints, &found) != 0) return Next::go_on;
  freeaddrinfo(found);
  return Next::no_such_family;
}

void learn_name(const char* name, std::span<const IpAddress> addresses) noexcept {
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
  if (!active()) return false;
  const Page* known = page();
  if (known == nullptr || !is_synthetic(*known, address)) return false;
  for (int i = 0; i < most_agents; ++i) {
    Conversation talk;
    wire::Message ask{};
    wire::Reply reply;
    ask.kind = wire::Ask::reverse;
    ask.reverse = address;
    if (!talk.say(ask) || talk.hear(reply, false) != Conversation::Heard::reply) continue;
    if (reply.kind != wire::Answer::name) return false;
    std::memcpy(out.data(), reply.name.data(), reply.name.size());
    out[reply.name.size()] = '\0';
    return true;
  }
  return false;
}

}  // namespace towpath
