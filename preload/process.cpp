#include "preload/complain.h"
#include "preload/process.h"

#include <cerrno>

#include <sys/mman.h>
#include <unistd.h>

#include "preload/ask.h"
#include "preload/pending.h"
#include "preload/real.h"
#include "preload/standalone.h"
#include "preload/supervised.h"
#include "base/sys.h"

namespace towpath {

namespace {

enum class Mode : int { unknown, inert, given, standalone };

constinit std::atomic<Mode> mode{Mode::unknown};
constinit wire::Control given{};  // by the launcher

// What a standalone agent told us. Inherited by fork, so that a child that changes its user keeps the right to ask.
constinit std::atomic<std::uint64_t> token_low{0}, token_high{0};
constinit std::atomic<bool> token_known{false};
constinit std::atomic<int> agent_pid{0};
constinit std::atomic<unsigned> agent_uid{0};
constinit std::atomic<unsigned> agent_home{0};  // the user under whose name it was found

constinit std::atomic<const Page*> mapped{nullptr};
// Of the agents before this one, in the order of their deaths. Never unmapped: what was pending there is lost.
constexpr std::size_t most_dead = 16;
constinit std::atomic<const Page*> dead[most_dead]{};
constinit std::atomic<std::uint64_t> first_user{0};  // the launcher's, plus one; 0: not met yet
constinit std::atomic<bool> gated{false};

Mode current_mode() noexcept {
  Mode known = mode.load(std::memory_order_acquire);
  if (known != Mode::unknown) return known;
  // Concurrent first calls write the same bytes.
  // One that is there and no good is a broken configuration, not an absent one: it leads to an agent that nobody is.
  wire::Control found{};
  if (has_variable(wire::control_variable)) {
    given = wire::parse_control(environment(wire::control_variable), found) ? found : wire::Control{};
    known = Mode::given;
  } else {
    known = standalone_configured() ? Mode::standalone : Mode::inert;
  }
  mode.store(known, std::memory_order_release);
  return known;
}

// A socket that came through exec may be in a handshake that the program before us began. Asked now, and not by the
// first hook that meets it: by then the program may have locked itself up.
void look_at_inherited() noexcept {
  constexpr int looked_at = 16;
  for (int fd = 0; fd < looked_at; ++fd) {
    int domain = 0;
    socklen_t size = sizeof domain;
    if (sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
        (domain != AF_INET && domain != AF_INET6))
      continue;
    note_gated();
    if (page() == nullptr) return;
    const std::uint64_t cookie = cookie_of(fd);
    if (known_socket_entry(cookie) != nullptr) note_inherited(cookie);
  }
}

constinit std::atomic<bool> runs{false};

// Looks as early as possible: a program may overwrite its environment later.
__attribute__((constructor)) void start() noexcept {
  real();
  if (current_mode() == Mode::inert) return;
  note_standard_error();
  if (current_mode() == Mode::given) look_at_inherited();
  put_up_net();
  runs.store(true, std::memory_order_relaxed);
}

void forget_agent() noexcept {
  token_known.store(false, std::memory_order_release);
  // Never unmapped: another thread may be reading it.
  const Page* old = mapped.exchange(nullptr);
  for (std::size_t i = 0; old != nullptr && i < most_dead; ++i) {
    const Page* free = nullptr;
    if (dead[i].compare_exchange_strong(free, old)) return;
  }
}

}  // namespace

namespace {

bool names(const char* variable, std::string_view name) noexcept {
  const std::string_view entry{variable};
  return entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=';
}

}  // namespace

bool has_variable(std::string_view name) noexcept {
  for (char** at = environ; at != nullptr && *at != nullptr; ++at)
    if (names(*at, name)) return true;
  return false;
}

std::string_view environment(std::string_view name) noexcept {
  for (char** at = environ; at != nullptr && *at != nullptr; ++at) {
    if (!names(*at, name)) continue;
    std::string_view entry{*at};
    entry.remove_prefix(name.size() + 1);
    return entry;
  }
  return {};
}

bool inbound_possible() noexcept {
  const Mode now = current_mode();
  return now == Mode::given ? given.inbound : now == Mode::standalone && standalone_may_accept();
}

bool program_runs() noexcept { return runs.load(std::memory_order_relaxed); }

bool active() noexcept { return current_mode() != Mode::inert; }

void agent_address(AgentAddress& out) noexcept {
  out.standalone = current_mode() == Mode::standalone;
  if (out.standalone) {
    // A process that has changed its user goes on with the agent that it knows.
    out.user = token_known.load(std::memory_order_acquire) ? agent_home.load(std::memory_order_relaxed)
                                                           : static_cast<unsigned>(sys::call(SYS_geteuid));
    out.name_size = rendezvous_name(out.name, out.user);
  } else {
    __builtin_memcpy(out.name, given.name, given.name_size);
    out.name_size = given.name_size;
  }
}

bool other_agent_address(AgentAddress& out) noexcept {
  const auto user = static_cast<unsigned>(sys::call(SYS_geteuid));
  if (!out.standalone || out.user == user) return false;
  out.user = user;
  out.name_size = rendezvous_name(out.name, user);
  return true;
}

bool agent_token(wire::Token& out) noexcept {
  if (current_mode() == Mode::given) {
    out = given.token;
    return true;
  }
  if (!token_known.load(std::memory_order_acquire)) return false;
  const std::uint64_t halves[] = {token_low.load(std::memory_order_relaxed),
                                  token_high.load(std::memory_order_relaxed)};
  __builtin_memcpy(out.data(), halves, sizeof halves);
  return true;
}

std::size_t control_text(std::span<char, most_control_text> out) noexcept {
  constexpr char digits[] = "0123456789abcdef";
  AgentAddress agent;
  wire::Token token;
  if (current_mode() == Mode::standalone && page() == nullptr) return 0;
  agent_address(agent);
  if (!agent_token(token)) return 0;
  std::size_t size = agent.name_size;
  __builtin_memcpy(out.data(), agent.name, size);
  out[size++] = ':';
  for (const std::uint8_t byte : token) {
    out[size++] = digits[byte >> 4];
    out[size++] = digits[byte & 15];
  }
  if (inbound_possible()) {
    __builtin_memcpy(out.data() + size, ":in", 3);
    size += 3;
  }
  return size;
}

void set_agent_token(const wire::Token& token) noexcept {
  if (current_mode() != Mode::standalone) return;
  std::uint64_t halves[2];
  __builtin_memcpy(halves, token.data(), sizeof halves);
  token_low.store(halves[0], std::memory_order_relaxed);
  token_high.store(halves[1], std::memory_order_relaxed);
  token_known.store(true, std::memory_order_release);
}

bool recognise_agent(int connection, unsigned user) noexcept {
  struct {
    int pid;
    unsigned uid, gid;
  } peer{};
  socklen_t size = sizeof peer;
  if (sys::call(SYS_getsockopt, connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  const bool known = token_known.load(std::memory_order_acquire);
  // Our own user's, root's, or the one that we (or the process we were forked from) trusted before.
  if (peer.uid != 0 && peer.uid != static_cast<unsigned>(sys::call(SYS_geteuid)) &&
      !(known && peer.uid == agent_uid.load(std::memory_order_relaxed)))
    return false;
  if (known && peer.pid != agent_pid.load(std::memory_order_relaxed)) forget_agent();
  agent_pid.store(peer.pid, std::memory_order_relaxed);
  agent_uid.store(peer.uid, std::memory_order_relaxed);
  agent_home.store(user, std::memory_order_relaxed);
  return true;
}

bool trusted_agent(int connection) noexcept {
  struct {
    int pid;
    unsigned uid, gid;
  } peer{};
  socklen_t size = sizeof peer;
  if (sys::call(SYS_getsockopt, connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  const std::uint64_t first = first_user.load(std::memory_order_relaxed);
  if (peer.uid != 0 && peer.uid != static_cast<unsigned>(sys::call(SYS_geteuid)) &&
      first != peer.uid + std::uint64_t{1})
    return false;
  if (first == 0) first_user.store(peer.uid + std::uint64_t{1}, std::memory_order_relaxed);
  return true;
}

void note_page_id(std::uint64_t id) noexcept {
  const Page* known = mapped_page();
  if (known != nullptr && known->id != id) forget_agent();
}

const Page* mapped_page() noexcept { return mapped.load(std::memory_order_acquire); }

const Page* page() noexcept {
  if (const Page* known = mapped_page()) return known;
  if (!active()) return nullptr;
  const int fd = ask_for_page();
  if (fd < 0) return nullptr;
  const long at = sys::call(SYS_mmap, 0, sizeof(Page), PROT_READ, MAP_SHARED, fd, 0);
  sys::call(SYS_close, fd);
  if (at < 0 && at > -4096) return nullptr;
  const auto* fresh = reinterpret_cast<const Page*>(at);
  if (fresh->magic != page_magic || fresh->version != page_version) {
    sys::call(SYS_munmap, at, sizeof(Page));
    return nullptr;
  }
  const Page* expected = nullptr;
  if (!mapped.compare_exchange_strong(expected, fresh)) {
    sys::call(SYS_munmap, at, sizeof(Page));
    return expected;
  }
  return fresh;
}

bool ever_gated() noexcept { return gated.load(std::memory_order_relaxed); }
void note_gated() noexcept { gated.store(true, std::memory_order_relaxed); }

bool anything_pending() noexcept { return own_pending(); }

bool tree_pending() noexcept {
  const Page* known = mapped_page();
  if (known == nullptr && gated.load(std::memory_order_relaxed)) known = page();  // another agent's
  if (known != nullptr && known->pending.load(std::memory_order_acquire) != 0) return true;
  for (const auto& each : dead) {
    const Page* old = each.load(std::memory_order_acquire);
    if (old == nullptr) return false;
    if (old->pending.load(std::memory_order_acquire) != 0) return true;
  }
  return false;
}

std::uint64_t cookie_of(int fd) noexcept {
  constexpr int so_cookie = 57;  // Linux 4.12
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, so_cookie, &cookie, &size) == 0 ? cookie : 0;
}

const PageEntry* known_socket_entry(std::uint64_t cookie) noexcept {
  const Page* known = mapped_page();
  if (known != nullptr)
    if (const PageEntry* entry = find_socket(*known, cookie)) return entry;
  for (const auto& each : dead) {
    const Page* old = each.load(std::memory_order_acquire);
    if (old == nullptr) return nullptr;
    if (const PageEntry* entry = find_socket(*old, cookie)) return entry;
  }
  return nullptr;
}

SocketState state_of(const PageEntry& entry) noexcept {
  const SocketState state = entry.state.load(std::memory_order_acquire);
  if (state != SocketState::pending && state != SocketState::quiet) return state;
  for (const auto& each : dead) {
    const Page* old = each.load(std::memory_order_acquire);
    if (old == nullptr) break;
    if (&entry >= old->entries && &entry < old->entries + page_entries) return SocketState::lost;
  }
  return state;
}

const PageEntry* gated_socket(int fd) noexcept {
  if (!anything_pending()) return nullptr;
  const PageEntry* entry = known_socket_entry(cookie_of(fd));
  if (entry == nullptr) return nullptr;
  const SocketState state = state_of(*entry);
  return state == SocketState::pending || state == SocketState::lost ? entry : nullptr;
}

const PageEntry* pending_socket(int fd) noexcept {
  const PageEntry* entry = gated_socket(fd);
  return entry != nullptr && state_of(*entry) == SocketState::pending ? entry : nullptr;
}

bool agent_holds(int fd) noexcept {
  if (!anything_pending()) return false;
  const PageEntry* entry = known_socket_entry(cookie_of(fd));
  return entry != nullptr &&
         (state_of(*entry) == SocketState::pending || entry->held.load(std::memory_order_acquire) != 0);
}

bool readable(const void* from, std::size_t size) noexcept {
  // rt_sigprocmask with an impossible `how` copies eight bytes in and changes nothing: EINVAL or EFAULT.
  constexpr int impossible = 99;
  const auto probe = [](const char* at) { return sys::call(SYS_rt_sigprocmask, impossible, at, 0, 8) != -EFAULT; };
  const char* first = static_cast<const char*>(from);
  if (first == nullptr) return false;
  // Nearly always it is a variable of the caller, on the very stack that we stand on.
  constexpr std::size_t near = 16384, page_size = 4096;
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  const auto at = reinterpret_cast<std::uintptr_t>(from);
  if (at >= here && at - here < near && size < near) return true;
  if (!probe(first)) return false;
  return size < 8 || at / page_size == (at + size - 1) / page_size || probe(first + size - 8);
}

}  // namespace towpath
