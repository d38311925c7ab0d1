// The gethostby* family: older than getaddrinfo, still used by perl, wget of old, python's socket.gethostbyname.
// A synthetic answer is built here, in the caller's buffer or in one per thread, exactly as hostent(3) wants it.
#include <cerrno>
#include <cstring>

#include <netinet/in.h>

#include "preload/names.h"
#include "preload/real.h"

using namespace towpath;

namespace {

// name, the two NULL-terminated lists, one address: all of it inside `room`, aligned. False: too small.
bool fill(hostent& out, std::string_view name, const IpAddress& address, char* room, std::size_t size) noexcept {
  const std::size_t skew = (alignof(char*) - reinterpret_cast<std::uintptr_t>(room) % alignof(char*)) % alignof(char*);
  const auto bytes = address.bytes();
  const std::size_t lists = 3 * sizeof(char*);
  if (size < skew + lists + bytes.size() + name.size() + 1) return false;
  auto** list = reinterpret_cast<char**>(room + skew);
  char* at = room + skew + lists;
  list[0] = at;       // h_addr_list: this address
  list[1] = nullptr;  //   and no other
  list[2] = nullptr;  // h_aliases: none
  std::memcpy(at, bytes.data(), bytes.size());
  char* text = at + bytes.size();
  std::memcpy(text, name.data(), name.size());
  text[name.size()] = '\0';
  out.h_name = text;
  out.h_aliases = list + 2;
  out.h_addrtype = address.is_v4() ? AF_INET : AF_INET6;
  out.h_length = static_cast<int>(bytes.size());
  out.h_addr_list = list;
  return true;
}

constexpr std::size_t thread_room = 512;
thread_local hostent thread_answer;
thread_local char thread_text[thread_room];

enum class Whose : std::uint8_t { own, ours, nobodys };

void learn(const char* name, const hostent* found) noexcept {
  IpAddress addresses[wire::max_learnt];
  std::size_t count = 0;
  for (char** at = found->h_addr_list; *at != nullptr && count < wire::max_learnt; ++at) {
    std::uint8_t bytes[16];
    std::memcpy(bytes, *at, static_cast<std::size_t>(found->h_length));
    addresses[count++] = found->h_addrtype == AF_INET6
                             ? IpAddress::v6(bytes)
                             : IpAddress::v4(std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
                                             std::uint32_t{bytes[2]} << 8 | bytes[3]);
  }
  learn_name(name, {addresses, count});
}

// Who answers. For `ours`, `address` is the synthetic one.
Whose whose(const char* name, int family, IpAddress& address, NameAnswer& answer) noexcept {
  if (name == nullptr || needs_no_answer(name)) return Whose::own;
  ask_name(name, family, answer);
  if (answer.kind == NameAnswer::Kind::own) return Whose::own;
  if (answer.kind == NameAnswer::Kind::refused) return Whose::nobodys;
  // A family of no internet: musl would ask its name servers all the same.
  answer.unusable = family != AF_INET && family != AF_INET6;
  if (answer.unusable) return Whose::nobodys;
  address = family == AF_INET6 ? answer.v6 : answer.v4;
  return Whose::ours;
}

int h_errno_of(const NameAnswer& refused) noexcept { return refused.unusable ? HOST_NOT_FOUND : TRY_AGAIN; }

hostent* fail(int number) noexcept {
  h_errno = number;
  return nullptr;
}

CandidateSearch::Next after(const CandidateSearch& search, const char* candidate, int error) noexcept {
  // musl says NO_RECOVERY of a name that has no address of the family.
  return search.after(candidate, error == TRY_AGAIN, error == NO_DATA || error == NO_RECOVERY);
}

hostent* lookup(const char* name, int family, hostent* (*own)(const char*, int)) noexcept {
  IpAddress address;
  NameAnswer answer;
  switch (whose(name, family, address, answer)) {
    case Whose::nobodys: return fail(h_errno_of(answer));
    case Whose::own: {
      hostent* found = own(name, family);
      if (found != nullptr && name != nullptr) learn(name, found);
      return found;
    }
    case Whose::ours: break;
  }
  const CandidateSearch search(family);
  for (std::size_t i = 0; i < answer.candidate_count; ++i) {
    hostent* const found = own(answer.candidates[i], family);
    if (found != nullptr) learn(answer.candidates[i], found);
    if (found != nullptr) return found;
    const auto next = after(search, answer.candidates[i], h_errno);
    if (next == CandidateSearch::Next::no_such_family) return fail(NO_DATA);
    if (next == CandidateSearch::Next::give_up) break;
  }
  if (fill(thread_answer, name, address, thread_text, thread_room)) return &thread_answer;
  return fail(NO_RECOVERY);
}

// The reentrant forms return an errno-like number and set *found.
template <class Own>
int lookup_r(const char* name, int family, hostent* room, char* text, std::size_t size, hostent** found, int* error,
             Own own) noexcept {
  IpAddress address;
  NameAnswer answer;
  switch (whose(name, family, address, answer)) {
    case Whose::nobodys:
      *found = nullptr;
      *error = h_errno_of(answer);
      return answer.unusable ? 0 : EAGAIN;  // that there is no such host is not a failure
    case Whose::own: {
      const int result = own(name);
      if (result == 0 && *found != nullptr && name != nullptr) learn(name, *found);
      return result;
    }
    case Whose::ours: break;
  }
  const CandidateSearch search(family);
  for (std::size_t i = 0; i < answer.candidate_count; ++i) {
    const int result = own(answer.candidates[i]);
    if (result == ERANGE) return result;
    if (result == 0 && *found != nullptr) {
      learn(answer.candidates[i], *found);
      return 0;
    }
    const auto next = after(search, answer.candidates[i], *error);
    if (next == CandidateSearch::Next::give_up) break;
    if (next == CandidateSearch::Next::go_on) continue;
    *found = nullptr;
    *error = NO_DATA;
    return 0;
  }
  *found = nullptr;
  if (!fill(*room, name, address, text, size)) {
    *error = NETDB_INTERNAL;
    return ERANGE;
  }
  *found = room;
  *error = NETDB_SUCCESS;
  return 0;
}

IpAddress from_bytes(const void* bytes, socklen_t size, int family) noexcept {
  std::uint8_t copy[16];
  if (bytes == nullptr || size > sizeof copy) return {};
  std::memcpy(copy, bytes, size);
  if (family == AF_INET && size == 4)
    return IpAddress::v4(std::uint32_t{copy[0]} << 24 | std::uint32_t{copy[1]} << 16 | std::uint32_t{copy[2]} << 8 |
                         copy[3]);
  return family == AF_INET6 && size == 16 ? IpAddress::v6(copy) : IpAddress{};
}

}  // namespace

TOWPATH_EXPORT hostent* gethostbyname(const char* name) {
  return lookup(name, AF_INET, [](const char* own, int) { return real().gethostbyname(own); });
}

TOWPATH_EXPORT hostent* gethostbyname2(const char* name, int family) {
  return lookup(name, family, [](const char* own, int f) { return real().gethostbyname2(own, f); });
}

TOWPATH_EXPORT int gethostbyname_r(const char* name, hostent* room, char* text, size_t size, hostent** found,
                                   int* error) {
  return lookup_r(name, AF_INET, room, text, size, found, error,
                  [&](const char* own) { return real().gethostbyname_r(own, room, text, size, found, error); });
}

TOWPATH_EXPORT int gethostbyname2_r(const char* name, int family, hostent* room, char* text, size_t size,
                                    hostent** found, int* error) {
  return lookup_r(name, family, room, text, size, found, error, [&](const char* own) {
    return real().gethostbyname2_r(own, family, room, text, size, found, error);
  });
}

TOWPATH_EXPORT hostent* gethostbyaddr(const void* bytes, socklen_t size, int family) {
  const IpAddress address = from_bytes(bytes, size, family);
  char name[wire::max_name + 1];
  if (!address || !name_of_synthetic(address, name)) return real().gethostbyaddr(bytes, size, family);
  return fill(thread_answer, name, address, thread_text, thread_room) ? &thread_answer : fail(NO_RECOVERY);
}

TOWPATH_EXPORT int gethostbyaddr_r(const void* bytes, socklen_t size, int family, hostent* room, char* text,
                                   size_t text_size, hostent** found, int* error) {
  const IpAddress address = from_bytes(bytes, size, family);
  char name[wire::max_name + 1];
  if (!address || !name_of_synthetic(address, name))
    return real().gethostbyaddr_r(bytes, size, family, room, text, text_size, found, error);
  *found = nullptr;
  if (!fill(*room, name, address, text, text_size)) {
    *error = NETDB_INTERNAL;
    return ERANGE;
  }
  *found = room;
  *error = NETDB_SUCCESS;
  return 0;
}
