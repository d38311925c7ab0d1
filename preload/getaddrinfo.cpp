// getaddrinfo() and getnameinfo(): a name that may be tunnelled is answered at once with a synthetic address that
// stands for it; nothing about it leaves the machine. Everything else is the program's own resolver's business.
//
// libc allocates every answer: the synthetic address is given to the real getaddrinfo as a numeric host, so that
// freeaddrinfo() of any libc can take it back.
#include <atomic>
#include <cstring>
#include <new>
#include <string_view>

#include <netinet/in.h>

#include "preload/names.h"
#include "preload/process.h"
#include "preload/real.h"

using namespace towpath;

namespace {

void learn_answers(const char* name, const addrinfo* list) noexcept {
  IpAddress found[wire::max_learnt];
  std::size_t count = 0;
  for (; list != nullptr && count < wire::max_learnt; list = list->ai_next) {
    const IpAddress address = Endpoint::from(list->ai_addr, list->ai_addrlen).address;
    if (address && (count == 0 || !(found[count - 1] == address))) found[count++] = address;
  }
  learn_name(name, {found, count});
}

// glibc frees ai_canonname by itself, musl keeps it inside the answer's own block.
bool libc_frees_canonical_name() noexcept { return libc_symbol("gnu_get_libc_version") != nullptr; }

// A name that lives for ever; its text follows it. The table only grows, by one entry per name.
struct KeptName {
  KeptName* next;
  std::size_t size;
  [[nodiscard]] char* text() noexcept { return reinterpret_cast<char*>(this + 1); }
};
constinit std::atomic<KeptName*> kept_names[256]{};

// Null when there is no memory.
char* kept(std::string_view name) noexcept {
  using Malloc = void* (*)(std::size_t);
  static const auto libc_malloc = reinterpret_cast<Malloc>(libc_symbol("malloc"));
  std::uint8_t bucket = 0;
  for (const char c : name) bucket = static_cast<std::uint8_t>(bucket * 31 + static_cast<unsigned char>(c));
  KeptName* first = kept_names[bucket].load(std::memory_order_acquire);
  for (KeptName* at = first; at != nullptr; at = at->next)
    if (std::string_view(at->text(), at->size) == name) return at->text();
  void* const room = libc_malloc != nullptr ? libc_malloc(sizeof(KeptName) + name.size() + 1) : nullptr;
  if (room == nullptr) return nullptr;
  auto* const fresh = new (room) KeptName{first, name.size()};
  std::memcpy(fresh->text(), name.data(), name.size());
  fresh->text()[name.size()] = '\0';
  // Two threads may keep the same name: once more does not matter.
  while (!kept_names[bucket].compare_exchange_weak(fresh->next, fresh)) {
  }
  return fresh->text();
}

void set_canonical_name(addrinfo* list, const char* name) noexcept {
  if (!libc_frees_canonical_name()) {
    char* const text = kept(name);
    for (; list != nullptr && text != nullptr; list = list->ai_next) list->ai_canonname = text;
    return;
  }
  using Strdup = char* (*)(const char*);
  using Free = void (*)(void*);
  const auto libc_strdup = reinterpret_cast<Strdup>(libc_symbol("strdup"));
  const auto libc_free = reinterpret_cast<Free>(libc_symbol("free"));
  char* const copy = libc_strdup != nullptr && libc_free != nullptr ? libc_strdup(name) : nullptr;
  if (copy == nullptr) return;
  libc_free(list->ai_canonname);
  list->ai_canonname = copy;
}

int synthetic_answer(const char* name, const char* service, const addrinfo& asked, const NameAnswer& answer,
                     addrinfo** out) noexcept {
  char host[IpAddress::text_size];
  const bool six = asked.ai_family == AF_INET6;
  const std::string_view text = (six ? answer.v6 : answer.v4).format(host);
  host[text.size()] = '\0';
  addrinfo hints = asked;
  // One address and no lookup: nothing to sort by what this host has configured, nothing to map.
  hints.ai_flags = (hints.ai_flags & ~(AI_ADDRCONFIG | AI_V4MAPPED | AI_ALL)) | AI_NUMERICHOST;
  const int result = real().getaddrinfo(host, service, &hints, out);
  if (result == 0 && (asked.ai_flags & AI_CANONNAME) != 0 && *out != nullptr) set_canonical_name(*out, name);
  return result;
}

}  // namespace

TOWPATH_EXPORT int getaddrinfo(const char* name, const char* service, const addrinfo* hints, addrinfo** out) {
  constexpr addrinfo none{};
  const addrinfo& asked = hints != nullptr ? *hints : none;
  if (name == nullptr || (asked.ai_flags & AI_NUMERICHOST) != 0 || needs_no_answer(name))
    return real().getaddrinfo(name, service, hints, out);
  if (asked.ai_family != AF_UNSPEC && asked.ai_family != AF_INET && asked.ai_family != AF_INET6)
    return real().getaddrinfo(name, service, hints, out);
  NameAnswer answer;
  ask_name(name, asked.ai_family, answer);
  if (answer.kind == NameAnswer::Kind::refused) return answer.unusable ? EAI_NONAME : EAI_AGAIN;
  if (answer.kind == NameAnswer::Kind::own) {
    const int result = real().getaddrinfo(name, service, hints, out);
    if (result == 0) learn_answers(name, *out);
    return result;
  }
  // What the search list would make of the name may be exempt: then the program's own resolver is asked first.
  const CandidateSearch search(asked.ai_family);
  for (std::size_t i = 0; i < answer.candidate_count; ++i) {
    const int result = real().getaddrinfo(answer.candidates[i], service, hints, out);
    if (result == 0) learn_answers(answer.candidates[i], *out);
    if (result == 0) return 0;
    const auto next = search.after(answer.candidates[i], result == EAI_AGAIN, result == EAI_NODATA);
    if (next == CandidateSearch::Next::no_such_family) return result;
    if (next == CandidateSearch::Next::give_up) break;
  }
  return synthetic_answer(name, service, asked, answer, out);
}

TOWPATH_EXPORT int getnameinfo(const sockaddr* address, socklen_t size, char* host, socklen_t host_size, char* service,
                               socklen_t service_size, int flags) {
  const Endpoint endpoint = active() ? Endpoint::from(address, size) : Endpoint{};
  char name[wire::max_name + 1];
  if (!endpoint.address || host == nullptr || host_size == 0 || (flags & NI_NUMERICHOST) != 0 ||
      !name_of_synthetic(endpoint.address, name))
    return real().getnameinfo(address, size, host, host_size, service, service_size, flags);
  const std::size_t length = std::strlen(name);
  if (length >= host_size) return EAI_OVERFLOW;
  if (service != nullptr && service_size != 0) {
    const int result = real().getnameinfo(address, size, nullptr, 0, service, service_size, flags & ~NI_NAMEREQD);
    if (result != 0) return result;
  }
  std::memcpy(host, name, length + 1);
  return 0;
}
