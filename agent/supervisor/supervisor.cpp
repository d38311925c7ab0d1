#include "agent/supervisor/supervisor.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/audit.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/attempt.h"
#include "agent/full.h"
#include "agent/holders.h"
#include "agent/open_sockets.h"

namespace towpath {

namespace {

#if defined(__x86_64__)
constexpr std::uint32_t own_architecture = AUDIT_ARCH_X86_64;
#else
constexpr std::uint32_t own_architecture = AUDIT_ARCH_AARCH64;
#endif

constexpr std::uint64_t tick_ms = 20;
constexpr unsigned ticks_per_look = 50;  // for sockets that were closed behind our back
constexpr std::size_t most_listeners = 4096;
constexpr std::size_t most_refused = 1024;
constexpr std::size_t most_processes = 4096;

std::uint64_t inode_of(const char* path) noexcept {
  struct stat status {};
  return stat(path, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

Supervisor::Supervisor(const Parts& parts, const Shelf& shelf, const wire::Token& token)
    : parts_(parts), shelf_(shelf), token_(token), network_(inode_of("/proc/self/ns/net")) {}

Supervisor::~Supervisor() = default;

bool Supervisor::adopt(UniqueFd listener, std::uint32_t flavour, std::vector<UniqueFd> inherited) {
  if ((flavour & ~trap::Flavour::all_bits) != 0 || listeners_.size() >= most_listeners) return false;
  const std::uint32_t key = last_key_ + 1;
  auto owned = std::make_unique<Listener>(*this, parts_.sockets, parts_.page, std::move(listener), key,
                                          trap::Flavour::of(flavour));
  if (!owned->start()) return false;
  last_key_ = key;
  put_on_shelf(*owned);
  if (owned->flavour().births && owned->flavour().inbound)
    for (UniqueFd& each : inherited)
      if (const Births::Born* born = births_.adopt_listener(std::move(each)); born != nullptr)
        (void)shelf_.put(born->copy.get(), born_note);
  listeners_.emplace(key, std::move(owned));
  return true;
}

void Supervisor::put_on_shelf(const Listener& listener) {
  const std::uint64_t note = std::uint64_t{listener.key()} << 32 | listener.flavour().bits();
  if (shelf_.put(listener.fd(), note)) return;
  refill_shelf();  // it is full of listeners whose trees have ended
  if (!shelf_.put(listener.fd(), note))
    LogLine(parts_.log, Level::warning, "supervision_not_kept")
        .add("reason", "too many trees of static programs at once: should the agent die, their connects fail");
}

void Supervisor::refill_shelf() {
  while (shelf_.take()) {
  }
  for (const auto& [key, each] : listeners_)
    (void)shelf_.put(each->fd(), std::uint64_t{key} << 32 | each->flavour().bits());
  for (const auto& [marker, epoll] : births_.epolls()) (void)shelf_.put(epoll.get(), epoll_note | marker);
  for (const auto& [inode, born] : births_.sockets())
    if (born.listens && born.copy) (void)shelf_.put(born.copy.get(), born_note);
  doors_kept_ = 0;
  keep_doors();
}

// Sockets may wait there when this agent dies. Were the port free then, they would meet whoever takes it.
void Supervisor::keep_doors() {
  const int doors[] = {parts_.quiet_door.v4(), parts_.quiet_door.v6()};
  for (unsigned i = 0; i < 2; ++i)
    if (doors[i] >= 0 && (doors_kept_ & 1u << i) == 0 && shelf_.put(doors[i], door_note)) doors_kept_ |= 1u << i;
}

// What lies on the shelf would still listen.
void Supervisor::sweep_births() {
  if (births_.sweep(roots())) refill_shelf();
}

void Supervisor::adopt_kept() {
  std::vector<Shelf::Item> items;
  while (auto item = shelf_.take()) items.push_back(std::move(*item));
  for (Shelf::Item& item : items) {
    if ((item.note & epoll_note) != 0) {
      const std::uint64_t marker = item.note & ~epoll_note;
      (void)shelf_.put(item.fd.get(), item.note);
      births_.adopt_epoll(marker, std::move(item.fd));
      continue;
    }
    if ((item.note & born_note) != 0) {
      (void)shelf_.put(item.fd.get(), item.note);
      births_.adopt_listener(std::move(item.fd));
      watch_time();
      continue;
    }
    if ((item.note & door_note) != 0) {
      parts_.quiet_door.adopt(std::move(item.fd));
      keep_doors();
      continue;
    }
    const auto key = static_cast<std::uint32_t>(item.note >> 32);
    last_key_ = std::max(last_key_, key);
    auto owned = std::make_unique<Listener>(*this, parts_.sockets, parts_.page, std::move(item.fd), key,
                                            trap::Flavour::of(static_cast<std::uint32_t>(item.note)));
    if (listeners_.contains(key) || !owned->start()) continue;
    (void)shelf_.put(owned->fd(), item.note);
    inherited_ = inherited_ || owned->flavour().births;
    listeners_.emplace(key, std::move(owned));
  }
}

void Supervisor::on_tree_ended(Listener& listener) {
  std::vector<HeldCall*> calls;
  for (const auto& [cookie, call] : held_) calls.push_back(call.get());
  for (HeldCall* call : calls) call->on_tree_ended(listener);
  std::vector<HeldReceive*> receives;
  for (const auto& [key, receive] : receiving_)
    if (receive->notice().from == &listener) receives.push_back(key);
  for (HeldReceive* receive : receives) {
    receive->notice().fail(EINTR);
    on_released(*receive);
  }
  std::vector<HeldAccept*> accepts;
  for (const auto& [key, accept] : accepting_)
    if (accept->call().notice.from == &listener) accepts.push_back(key);
  for (HeldAccept* accept : accepts) {
    accept->call().notice.fail(EINTR);
    on_released(*accept);
  }
  const auto at = listeners_.find(listener.key());
  if (at == listeners_.end()) return;
  ended_listeners_.push_back(std::move(at->second));
  listeners_.erase(at);
  if (!listeners_.empty()) return;
  births_ = {};
  refill_shelf();
  unix_.clear();
  processes_.clear();
  refused_.clear();
}

void Supervisor::on_released(HeldCall& call) {
  const auto at = held_.find(call.cookie());
  if (at == held_.end() || at->second.get() != &call) return;
  ended_calls_.push_back(std::move(at->second));
  held_.erase(at);
  if (parts_.judge.find(call.cookie()) != nullptr) gated_.insert(call.cookie());  // it goes on without a caller
}

void Supervisor::on_released(HeldReceive& call) {
  const auto at = receiving_.find(&call);
  if (at == receiving_.end()) return;
  ended_receives_.push_back(std::move(at->second));
  receiving_.erase(at);
}

void Supervisor::sweep_ended() {
  ended_calls_.clear();
  ended_receives_.clear();
  ended_accepts_.clear();
  ended_listeners_.clear();
}

void Supervisor::on_verdict(const Attempt& attempt, SocketState state) {
  gated_.erase(attempt.order().ask.cookie);
  unheard_.erase(attempt.order().ask.cookie);
  if (state == SocketState::open && !births_.empty()) births_.let_go(socket_inode(attempt.order().socket.get()));
}

bool Supervisor::still_held(const Attempt& attempt) {
  const Attempt::Order& order = attempt.order();
  const std::uint64_t inode = socket_inode(order.socket.get());
  if (inode == 0 || socket_inode(order.asker.pid, order.ask.fd) == inode) return true;
  std::vector<pid_t> where = roots();
  where.push_back(order.asker.pid);
  return held_elsewhere(std::move(where), order.socket.get(), -1, -1);
}

// ---- time

void Supervisor::watch_time() {
  if (clock_) return;
  clock_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(parts_.loop, handle); });
  uv_timer_start(
      clock_.get(), [](uv_timer_t* handle) { static_cast<Supervisor*>(handle->data)->on_tick(); }, tick_ms, tick_ms);
  uv_unref(reinterpret_cast<uv_handle_t*>(clock_.get()));
}

void Supervisor::on_tick() {
  std::vector<HeldCall*> calls;
  for (const auto& [cookie, call] : held_) calls.push_back(call.get());
  for (HeldCall* call : calls) call->look_for_signals();
  std::vector<HeldReceive*> receives;
  for (const auto& [key, receive] : receiving_) receives.push_back(key);
  for (HeldReceive* receive : receives) receive->look_for_signals();
  std::vector<HeldAccept*> accepts;
  for (const auto& [key, accept] : accepting_) accepts.push_back(key);
  for (HeldAccept* accept : accepts) accept->look_for_signals();
  if (++ticks_ % ticks_per_look == 0) look_for_closed();
  if (held_.empty() && receiving_.empty() && accepting_.empty() && gated_.empty() && !births_.any_copy())
    clock_.reset();
}

void Supervisor::note_process(pid_t tid) {
  if (const pid_t process = tasks_.process_of(tid); process != 0) processes_.insert(process);
}

std::vector<pid_t> Supervisor::roots() {
  std::erase_if(processes_, [](pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; });
  std::vector<pid_t> out(processes_.begin(), processes_.end());
  out.push_back(getpid());  // orphans of the tree end up here
  // Children of the agent before us are its parent's now, which is ours, too.
  if (inherited_) out.push_back(getppid());
  return out;
}

// Nobody tells us of a close.
void Supervisor::look_for_closed() {
  if (births_.any_copy()) sweep_births();
  if (gated_.empty()) return;
  std::unordered_set<std::uint64_t> held;
  const Walk walk = walk_descriptors(roots(), most_processes, [&](pid_t, std::string_view, std::string_view link) {
    if (link.starts_with("socket:[")) held.insert(std::strtoull(std::string(link.substr(8)).c_str(), nullptr, 10));
    return true;
  });
  if (walk != Walk::complete) return;
  std::vector<std::uint64_t> closed;
  for (const std::uint64_t cookie : gated_) {
    const Attempt* attempt = parts_.judge.find(cookie);
    if (attempt == nullptr || !held.contains(socket_inode(attempt->order().socket.get()))) closed.push_back(cookie);
  }
  for (const std::uint64_t cookie : closed) {
    gated_.erase(cookie);
    if (Attempt* attempt = parts_.judge.find(cookie)) attempt->abandon();
  }
}

// ---- one call

void Supervisor::on_notice(const Notice& notice) {
  if (notice.tid == 0) return notice.fail(EACCES);  // in a PID namespace that we cannot see: nothing can be told of it
  if (notice.data.arch != own_architecture) return foreign_call(notice);
  switch (notice.data.nr) {
    case SYS_connect: return connect(notice);
    case SYS_epoll_ctl: return epoll_ctl(notice);
    case SYS_getsockopt: return getsockopt(notice);
    case SYS_getpeername: return getpeername(notice);
    case SYS_sendto: return sendto(notice);
    case SYS_sendmsg: return sendmsg(notice);
    case SYS_sendmmsg: return sendmmsg(notice);
    case SYS_recvfrom: return receive(notice, false);
    case SYS_recvmsg: return receive(notice, true);
    case SYS_accept4: return accept(notice);
#ifdef SYS_accept
    case SYS_accept: return accept(notice);
#endif
    case SYS_socket: return make_socket(notice);
    case SYS_bind: return bind(notice);
    case SYS_listen: return listen(notice);
#ifdef SYS_epoll_create
    case SYS_epoll_create:
#endif
    case SYS_epoll_create1: return make_epoll(notice);
    default: return notice.go_on();
  }
}

bool Supervisor::same_network(pid_t tid) const {
  return network_ == 0 || inode_of(("/proc/" + std::to_string(tid) + "/ns/net").c_str()) == network_;
}

void Supervisor::refuse(const Notice& notice, std::string_view why, std::string_view hint) {
  const pid_t process = tasks_.process_of(notice.tid);
  if (refused_.size() >= most_refused) refused_.clear();
  if (refused_.insert(process).second)
    LogLine(parts_.log, Level::error, "connect_refused")
        .add("program", Asker{process, 0}.program())
        .about(process)
        .add("reason", why)
        .add("hint", hint);
  notice.fail(EACCES);
}

void Supervisor::full(const Notice& notice, int error) {
  say_full(parts_.log);
  notice.fail(error);
}

bool Supervisor::can_see(pid_t tid) const {
  return access(("/proc/" + std::to_string(tid) + "/fd").c_str(), X_OK) == 0;
}

bool Supervisor::inspect(const Notice& notice, int number, Target& out) {
  const auto& births = notice.from->flavour().births;
  if (!births) {
    out.fd = tasks_.take_descriptor(notice.tid, number);
    if (!out.fd) return false;
  } else {
    const std::uint64_t inode = socket_inode(notice.tid, number);
    if (inode == 0) {
      // Not there, or is it that /proc shows us nothing of that thread?
      if (errno == ENOENT) errno = can_see(notice.tid) ? EBADF : EACCES;
      return false;
    }
    const Births::Born* born = births_.find(inode);
    if (born == nullptr && inherited_ && notice.data.nr == SYS_getpeername) {
      // A tunnel from before, perhaps: its identity is all that is wanted.
      if (const auto found = OpenSockets::find_stream(inode); found.cookie != 0) {
        births_.add(inode, {UniqueFd(), found.cookie, found.domain, SOCK_STREAM});
        born = births_.find(inode);
      }
    }
    if (born == nullptr) {
      errno = ENOENT;
      return false;
    }
    out.cookie = born->cookie;
    out.domain = born->domain;
    out.type = born->type;
    out.v6_only = born->v6_only;
    if (born->copy) out.fd.reset(fcntl(born->copy.get(), F_DUPFD_CLOEXEC, 3));
    return true;
  }
  socklen_t size = sizeof out.domain;
  if (::getsockopt(out.fd.get(), SOL_SOCKET, SO_DOMAIN, &out.domain, &size) != 0) return false;
  size = sizeof out.type;
  ::getsockopt(out.fd.get(), SOL_SOCKET, SO_TYPE, &out.type, &size);
  size = sizeof out.cookie;
  ::getsockopt(out.fd.get(), SOL_SOCKET, SO_COOKIE, &out.cookie, &size);
  return true;
}

Supervisor::Look Supervisor::look(const Notice& notice, int number, Target& out) {
  if (inspect(notice, number, out)) {
    if (out.domain == AF_INET || out.domain == AF_INET6) return Look::inet;
    notice.go_on();
    return Look::other;
  }
  const int error = errno;
  switch (error) {
    case ENOENT: return Look::stranger;
    // Seen to be no socket. Nothing else may go on: the kernel would look at the number again, and find what we did
    // not.
    case ENOTSOCK: notice.go_on(); return Look::other;
    case EBADF: notice.fail(EBADF); return Look::bad;
    case EMFILE:
    case ENFILE: full(notice); return Look::bad;
    default:
      refuse(notice, "towpath may not look into this program: it belongs to another user, or may not be read",
             "give towpath CAP_SYS_PTRACE, or run both as the same user; /proc must be mounted and show it");
      return Look::unreadable;
  }
}

}  // namespace towpath
