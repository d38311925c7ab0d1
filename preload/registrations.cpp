#include "preload/registrations.h"

#include <atomic>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>

#include "preload/net.h"
#include "preload/process.h"
#include "base/sys.h"

namespace towpath {

namespace {

// A slot is owned by the thread that set `busy`; a reader that meets a busy slot skips it, since that socket is being
// changed by another thread of the program at this very moment and the program cannot expect an order either.
struct Slot {
  std::atomic<bool> busy;
  std::uint64_t cookie;
  wire::Registration registration;
};

constexpr std::size_t slots = 4096, window = 16;
constinit Slot table[slots]{};
constinit std::atomic<bool> used{false};

std::size_t start_of(std::uint64_t cookie) noexcept {
  return static_cast<std::size_t>(cookie * 0x9e3779b97f4a7c15ull >> 40);
}

template <class F>
void for_each_slot(std::uint64_t cookie, F&& visit) noexcept {
  for (std::size_t i = 0; i < window; ++i) {
    Slot& slot = table[(start_of(cookie) + i) % slots];
    if (slot.busy.exchange(true, std::memory_order_acquire)) continue;
    const bool stop = visit(slot);
    slot.busy.store(false, std::memory_order_release);
    if (stop) return;
  }
}

bool unconnected_stream(int fd) noexcept {
  sockaddr_storage peer;
  socklen_t size = sizeof peer;
  if (passing::call(SYS_getpeername, fd, &peer, &size) != -ENOTCONN) return false;
  int value = 0;
  size = sizeof value;
  if (sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &value, &size) != 0) return false;
  if (value != AF_INET && value != AF_INET6) return false;
  if (sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &value, &size) != 0 || value != SOCK_STREAM) return false;
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value == 0;
}

}  // namespace

void remember_registration(int epoll, int operation, int fd, const epoll_event* event) noexcept {
  if (operation == EPOLL_CTL_ADD) {
    if (!unconnected_stream(fd)) return;
    used.store(true, std::memory_order_relaxed);
  } else if (!used.load(std::memory_order_relaxed)) {
    return;
  }
  const std::uint64_t cookie = cookie_of(fd);
  if (cookie == 0) return;
  Slot* oldest = nullptr;
  bool found = false;
  for_each_slot(cookie, [&](Slot& slot) {
    if (slot.cookie == cookie && slot.registration.epoll == epoll && slot.registration.fd == fd) {
      if (operation == EPOLL_CTL_DEL) slot.cookie = 0;
      else slot.registration = {fd, epoll, event->events, 0, event->data.u64};
      return found = true;
    }
    // Cookies grow: the smallest one in the window is the oldest socket, most likely closed.
    if (oldest == nullptr || slot.cookie < oldest->cookie) oldest = &slot;
    return false;
  });
  if (found || operation != EPOLL_CTL_ADD || oldest == nullptr) return;
  if (oldest->busy.exchange(true, std::memory_order_acquire)) return;
  oldest->cookie = cookie;
  oldest->registration = {fd, epoll, event->events, 0, event->data.u64};
  oldest->busy.store(false, std::memory_order_release);
}

std::size_t find_registrations(std::uint64_t cookie,
                               std::array<wire::Registration, wire::max_registrations>& out) noexcept {
  std::size_t count = 0;
  if (cookie == 0 || !used.load(std::memory_order_relaxed)) return 0;
  for_each_slot(cookie, [&](Slot& slot) {
    // The set's number may have been closed or reused since: the agent checks that it is an epoll set.
    if (slot.cookie == cookie && sys::call(SYS_fcntl, slot.registration.epoll, F_GETFD) >= 0) {
      out[count++] = slot.registration;
      slot.cookie = 0;
    }
    return count == out.size();
  });
  return count;
}

}  // namespace towpath
