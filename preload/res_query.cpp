// The res_* family (ssh, kerberos, postfix: SRV, MX, TXT and the like): libc's own sockets pass no hook, so the
// question itself goes to the agent, which answers it as it would answer a packet (agent/dns_answers).
#include <cerrno>
#include <cstring>

#include <resolv.h>

#include "preload/ask.h"
#include "preload/process.h"
#include "preload/real.h"
#include "base/sys.h"
#include "proto/dns_message.h"

using namespace towpath;

namespace {

constexpr timeval patience{30, 0};  // three silent name servers

int fail(int reason) noexcept {
  h_errno = reason;
  return -1;
}

std::uint16_t random_id() noexcept {
  std::uint16_t id = 0;
  sys::call(SYS_getrandom, &id, sizeof id, 1 /* GRND_NONBLOCK */);
  return id;
}

// The size of the reply in `out`, -1 with errno as libc sets it.
int exchange(std::span<const std::byte> query, std::uint8_t* out, int room) noexcept {
  if (query.size() > wire::max_query || room < static_cast<int>(dns::header_size)) {
    errno = EMSGSIZE;
    return -1;
  }
  Conversation talk;
  wire::Message ask{};
  wire::Reply reply;
  ask.kind = wire::Ask::query;
  ask.query = query;
  auto heard = talk.say(ask) ? Conversation::Heard::interrupted : Conversation::Heard::lost;
  while (heard == Conversation::Heard::interrupted) heard = talk.hear(reply, true, patience);
  if (heard != Conversation::Heard::reply || reply.kind != wire::Answer::message) {
    errno = ETIMEDOUT;
    return -1;
  }
  const auto size = static_cast<int>(reply.message.size());
  const int shown = size < room ? size : room;
  std::memcpy(out, reply.message.data(), static_cast<std::size_t>(shown));
  if (shown < size) out[2] |= 2;  // TC
  return shown;
}

int ask_name(std::string_view name, int klass, int type, std::uint8_t* out, int room) noexcept {
  std::byte query[dns::header_size + dns::max_question];
  const std::size_t size =
      dns::build_query(query, random_id(), name, static_cast<std::uint16_t>(klass), static_cast<std::uint16_t>(type));
  if (size == 0) return fail(NO_RECOVERY);
  const int got = exchange({query, size}, out, room);
  if (got < static_cast<int>(dns::header_size)) return fail(TRY_AGAIN);
  const bool empty = out[6] == 0 && out[7] == 0;
  switch (static_cast<dns::Rcode>(out[3] & 15)) {
    case dns::Rcode::ok: return empty ? fail(NO_DATA) : got;
    case dns::Rcode::no_such_name: return fail(HOST_NOT_FOUND);
    case dns::Rcode::failed: return fail(TRY_AGAIN);
    case dns::Rcode::malformed:
    case dns::Rcode::not_implemented:
    case dns::Rcode::refused: break;
  }
  return fail(NO_RECOVERY);
}

int ask_in_domain(std::string_view name, std::string_view domain, int klass, int type, std::uint8_t* out,
                  int room) noexcept {
  char whole[2 * (dns::max_name + 2)];
  if (!name.empty() && name[name.size() - 1] == '.') name = {name.data(), name.size() - 1};
  if (name.size() > dns::max_name || domain.size() > dns::max_name) return fail(NO_RECOVERY);
  std::memcpy(whole, name.data(), name.size());
  whole[name.size()] = '.';
  std::memcpy(whole + name.size() + 1, domain.data(), domain.size());
  return ask_name({whole, name.size() + (domain.empty() ? 0 : 1 + domain.size())}, klass, type, out, room);
}

// glibc's state of this thread, null under musl, whose res_search does not search.
res_state thread_state() noexcept {
  if (libc_symbol("gnu_get_libc_version") == nullptr) return nullptr;
  using State = res_state (*)();
  using Init = int (*)();
  const auto state = reinterpret_cast<State>(libc_symbol("__res_state"));
  if (state == nullptr) return nullptr;
  if ((state()->options & RES_INIT) == 0)
    if (const auto init = reinterpret_cast<Init>(libc_symbol("__res_init")); init == nullptr || init() != 0)
      return nullptr;
  return state();
}

int search(const struct __res_state* state, const char* name, int klass, int type, std::uint8_t* out,
           int room) noexcept {
  const std::size_t size = std::strlen(name);
  const bool absolute = size != 0 && name[size - 1] == '.';
  if (state == nullptr || absolute) return ask_name(name, klass, type, out, room);
  unsigned dots = 0;
  for (std::size_t i = 0; i < size; ++i) dots += name[i] == '.';
  const bool first = dots >= state->ndots;
  bool no_data = false, again = false;
  int got = -1;
  const auto found = [&] {
    if (got < 0 && h_errno == NO_DATA) no_data = true;
    if (got < 0 && h_errno == TRY_AGAIN) again = true;
    return got >= 0;
  };
  if (first) {
    got = ask_name(name, klass, type, out, room);
    if (found()) return got;
  }
  if ((state->options & (dots == 0 ? RES_DEFNAMES : RES_DNSRCH)) != 0)
    for (std::size_t i = 0; i < MAXDNSRCH && state->dnsrch[i] != nullptr; ++i) {
      const std::string_view domain(state->dnsrch[i]);
      got = ask_in_domain(name, domain == "." ? std::string_view() : domain, klass, type, out, room);
      if (found()) return got;
    }
  if (!first) {
    got = ask_name(name, klass, type, out, room);
    if (found()) return got;
  }
  return fail(no_data ? NO_DATA : again ? TRY_AGAIN : HOST_NOT_FOUND);
}

template <class State>
int noted(State* state, int result) noexcept {
  if (result < 0) state->res_h_errno = h_errno;
  return result;
}

std::span<const std::byte> bytes(const unsigned char* from, int size) noexcept {
  return {reinterpret_cast<const std::byte*>(from), static_cast<std::size_t>(size < 0 ? 0 : size)};
}

}  // namespace

// A libc has the plain names, or those with underscores, or both: whatever the program was linked to, it finds ours.
template <class... Args>
int libc_call(const char* name, Args... args) noexcept {
  using Function = int (*)(Args...);
  auto function = reinterpret_cast<Function>(next_symbol(name));
  if (function == nullptr) function = reinterpret_cast<Function>(next_symbol(name + 2));
  return function != nullptr ? function(args...) : fail(NETDB_INTERNAL);
}

#define OTHERWISE(call, ...) \
  if (!active()) return libc_call("__" #call, __VA_ARGS__)

TOWPATH_EXPORT int res_query(const char* name, int klass, int type, unsigned char* out, int room) noexcept {
  OTHERWISE(res_query, name, klass, type, out, room);
  return ask_name(name, klass, type, out, room);
}
TOWPATH_EXPORT int res_search(const char* name, int klass, int type, unsigned char* out, int room) noexcept {
  OTHERWISE(res_search, name, klass, type, out, room);
  return search(thread_state(), name, klass, type, out, room);
}
TOWPATH_EXPORT int res_querydomain(const char* name, const char* domain, int klass, int type, unsigned char* out,
                                   int room) noexcept {
  OTHERWISE(res_querydomain, name, domain, klass, type, out, room);
  return ask_in_domain(name, domain != nullptr ? domain : "", klass, type, out, room);
}
TOWPATH_EXPORT int res_send(const unsigned char* query, int size, unsigned char* out, int room) noexcept {
  OTHERWISE(res_send, query, size, out, room);
  return exchange(bytes(query, size), out, room);
}
TOWPATH_EXPORT int res_nquery(res_state state, const char* name, int klass, int type, unsigned char* out,
                              int room) noexcept {
  OTHERWISE(res_nquery, state, name, klass, type, out, room);
  return noted(state, ask_name(name, klass, type, out, room));
}
TOWPATH_EXPORT int res_nsearch(res_state state, const char* name, int klass, int type, unsigned char* out,
                               int room) noexcept {
  OTHERWISE(res_nsearch, state, name, klass, type, out, room);
  return noted(state, search(state, name, klass, type, out, room));
}
TOWPATH_EXPORT int res_nquerydomain(res_state state, const char* name, const char* domain, int klass, int type,
                                    unsigned char* out, int room) noexcept {
  OTHERWISE(res_nquerydomain, state, name, domain, klass, type, out, room);
  return noted(state, ask_in_domain(name, domain != nullptr ? domain : "", klass, type, out, room));
}
TOWPATH_EXPORT int res_nsend(res_state state, const unsigned char* query, int size, unsigned char* out,
                             int room) noexcept {
  OTHERWISE(res_nsend, state, query, size, out, room);
  return exchange(bytes(query, size), out, room);
}

TOWPATH_EXPORT int __res_query(const char* name, int klass, int type, unsigned char* out, int room) noexcept {
  return res_query(name, klass, type, out, room);
}
TOWPATH_EXPORT int __res_search(const char* name, int klass, int type, unsigned char* out, int room) noexcept {
  return res_search(name, klass, type, out, room);
}
TOWPATH_EXPORT int __res_querydomain(const char* name, const char* domain, int klass, int type, unsigned char* out,
                                     int room) noexcept {
  return res_querydomain(name, domain, klass, type, out, room);
}
TOWPATH_EXPORT int __res_send(const unsigned char* query, int size, unsigned char* out, int room) noexcept {
  return res_send(query, size, out, room);
}
TOWPATH_EXPORT int __res_nquery(res_state state, const char* name, int klass, int type, unsigned char* out,
                                int room) noexcept {
  return res_nquery(state, name, klass, type, out, room);
}
TOWPATH_EXPORT int __res_nsearch(res_state state, const char* name, int klass, int type, unsigned char* out,
                                 int room) noexcept {
  return res_nsearch(state, name, klass, type, out, room);
}
TOWPATH_EXPORT int __res_nquerydomain(res_state state, const char* name, const char* domain, int klass, int type,
                                      unsigned char* out, int room) noexcept {
  return res_nquerydomain(state, name, domain, klass, type, out, room);
}
TOWPATH_EXPORT int __res_nsend(res_state state, const unsigned char* query, int size, unsigned char* out,
                               int room) noexcept {
  return res_nsend(state, query, size, out, room);
}
