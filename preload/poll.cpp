// poll, ppoll, select, pselect: a socket in a handshake is replaced by a temporary connection to the agent, which
// becomes readable when the handshake is over; then the real socket is looked at. Nothing pending: one load and the
// real call. select becomes ppoll while something is pending (numbers may exceed FD_SETSIZE).
#include <cerrno>
#include <csignal>
#include <cstring>

#include <sys/mman.h>

#include "preload/accept.h"
#include "preload/ask.h"
#include "preload/process.h"
#include "preload/real.h"
#include "base/sys.h"

using namespace towpath;

namespace {

constexpr std::int64_t second = 1'000'000'000;

std::int64_t now() noexcept {
  timespec time{};
  sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
  return time.tv_sec * second + time.tv_nsec;
}

// How long a call may still wait; null timeout is for ever.
class Patience {
 public:
  explicit Patience(const timespec* timeout) noexcept
      : bounded_(timeout != nullptr), end_(bounded_ ? now() + timeout->tv_sec * second + timeout->tv_nsec : 0) {}
  const timespec* left() noexcept {
    if (!bounded_) return nullptr;
    const std::int64_t rest = end_ - now();
    left_ = rest > 0 ? timespec{rest / second, rest % second} : timespec{};
    return &left_;
  }

 private:
  bool bounded_;
  std::int64_t end_;
  timespec left_{};
};

// Room for pollfds: on the stack up to a size, else an anonymous mapping.
class PollRoom {
 public:
  explicit PollRoom(std::size_t count) noexcept {
    if (count <= on_stack) return;
    size_ = count * sizeof(pollfd);
    const long mapped = sys::call(SYS_mmap, 0, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    at_ = mapped < 0 && mapped > -4096 ? nullptr : reinterpret_cast<pollfd*>(mapped);
  }
  ~PollRoom() {
    if (size_ != 0 && at_ != nullptr) sys::call(SYS_munmap, at_, size_);
  }
  PollRoom(const PollRoom&) = delete;
  PollRoom& operator=(const PollRoom&) = delete;
  pollfd* get() noexcept { return at_; }

 private:
  static constexpr std::size_t on_stack = 65;
  pollfd stack_[on_stack];
  pollfd* at_ = stack_;
  std::size_t size_ = 0;
};

bool any_of_these_pending(const pollfd* fds, nfds_t count) noexcept {
  if (!anything_pending()) return false;
  for (nfds_t i = 0; i < count; ++i)
    if (fds[i].fd >= 0 && gated_socket(fds[i].fd) != nullptr) return true;
  return false;
}

int gated_ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) noexcept {
  Patience patience(timeout);
  PollRoom room(count + 1);
  pollfd* copy = room.get();
  if (copy == nullptr) {
    errno = ENOMEM;
    return -1;
  }
  bool agent_was_lost = false;
  for (;;) {
    std::uint64_t cookies[wire::max_watched];
    std::size_t watched = 0;
    int lost = 0;
    for (nfds_t i = 0; i < count; ++i) {
      copy[i] = fds[i];
      copy[i].revents = 0;
      const PageEntry* entry = fds[i].fd >= 0 ? gated_socket(fds[i].fd) : nullptr;
      if (entry == nullptr) continue;
      copy[i].fd = -1;
      if (agent_was_lost || state_of(*entry) == SocketState::lost) {
        copy[i].revents = static_cast<short>(fds[i].events & (POLLIN | POLLOUT)) | POLLERR | POLLHUP;
        ++lost;
      } else if (watched < wire::max_watched) {
        cookies[watched++] = entry->cookie.load(std::memory_order_relaxed);
      }
    }
    if (watched == 0 && lost == 0) return real().ppoll(fds, count, patience.left(), mask);
    Conversation channel;
    const bool watching = lost == 0 && begin_watch(channel, {cookies, watched});
    if (!watching && lost == 0) {
      agent_was_lost = true;
      continue;
    }
    copy[count] = {watching ? channel.fd() : -1, POLLIN, 0};
    const timespec at_once{};
    // ppoll clears what it does not look at.
    for (nfds_t i = 0; i < count; ++i) fds[i].revents = copy[i].revents;
    int ready = real().ppoll(copy, count + 1, lost != 0 ? &at_once : patience.left(), mask);
    if (ready < 0) return ready;
    const bool rang = copy[count].revents != 0;
    ready -= rang ? 1 : 0;
    if (ready + lost > 0 || !rang) {
      for (nfds_t i = 0; i < count; ++i)
        if (copy[i].fd >= 0 || fds[i].fd < 0 || lost == 0) fds[i].revents = copy[i].revents;
      return ready + lost;
    }
    // The verdict is in the page; or the agent is gone, and the next one knows what was lost.
    wire::Reply reply;
    (void)channel.hear(reply, false);
  }
}

// For accept: what the program waits for by poll or select. A larger set is an event loop's, whose listeners do not
// block.
constexpr nfds_t most_noted = 64;

void note_all_polled(const pollfd* fds, nfds_t count) noexcept {
  if (!accepts_managed() || count > most_noted || !readable(fds, count * sizeof *fds)) return;
  for (nfds_t i = 0; i < count; ++i)
    if ((fds[i].events & POLLIN) != 0) note_polled(fds[i].fd);
}

int poll_hook(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, bool& handled) noexcept {
  note_all_polled(fds, count);
  // A bad pointer is the kernel's to find.
  handled = anything_pending() && readable(fds, count * sizeof *fds) &&
            (timeout == nullptr || readable(timeout, sizeof *timeout)) && any_of_these_pending(fds, count);
  return handled ? gated_ppoll(fds, count, timeout, mask) : 0;
}

int poll_milliseconds(pollfd* fds, nfds_t count, int timeout, bool& handled) noexcept {
  const timespec time{timeout / 1000, timeout % 1000 * 1'000'000L};
  return poll_hook(fds, count, timeout < 0 ? nullptr : &time, nullptr, handled);
}

// ---- select ----

using Word = unsigned long;
constexpr int word_bits = 8 * sizeof(Word);

bool has(const fd_set* set, int fd) noexcept {
  return set != nullptr && (reinterpret_cast<const Word*>(set)[fd / word_bits] >> (fd % word_bits) & 1) != 0;
}
void put(fd_set* set, int fd, bool on) noexcept {
  if (set == nullptr) return;
  Word& word = reinterpret_cast<Word*>(set)[fd / word_bits];
  const Word bit = Word{1} << (fd % word_bits);
  word = on ? word | bit : word & ~bit;
}

bool any_of_these_pending(int count, const fd_set* in, const fd_set* out, const fd_set* except) noexcept {
  if (count < 0) return false;
  const std::size_t size = (static_cast<std::size_t>(count) + word_bits - 1) / word_bits * sizeof(Word);
  if (accepts_managed() && in != nullptr && readable(in, size))
    for (int fd = 0; fd < count; ++fd)
      if (has(in, fd)) note_polled(fd);
  if (!anything_pending()) return false;
  // A bad pointer is the kernel's to find.
  for (const fd_set* set : {in, out, except})
    if (set != nullptr && size != 0 && !readable(set, size)) return false;
  for (int fd = 0; fd < count; ++fd)
    if ((has(in, fd) || has(out, fd) || has(except, fd)) && gated_socket(fd) != nullptr) return true;
  return false;
}

int select_by_poll(int count, fd_set* in, fd_set* out, fd_set* except, const timespec* timeout,
                   const sigset_t* mask) noexcept {
  // The kernel's own meaning of the three sets (fs/select.c).
  constexpr short readable_events = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR;
  constexpr short writable_events = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR;
  constexpr short except_events = POLLPRI;
  PollRoom room(static_cast<std::size_t>(count));
  pollfd* fds = room.get();
  if (fds == nullptr) {
    errno = ENOMEM;
    return -1;
  }
  nfds_t used = 0;
  for (int fd = 0; fd < count; ++fd) {
    const int events = (has(in, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
                       (has(out, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) | (has(except, fd) ? POLLPRI : 0);
    if (events != 0) fds[used++] = {fd, static_cast<short>(events), 0};
  }
  const int ready = gated_ppoll(fds, used, timeout, mask);
  if (ready < 0) return ready;
  for (nfds_t i = 0; i < used; ++i)
    if ((fds[i].revents & POLLNVAL) != 0) {
      errno = EBADF;
      return -1;
    }
  int bits = 0;
  for (nfds_t i = 0; i < used; ++i) {
    const auto answer = [&](fd_set* set, short events) {
      if (!has(set, fds[i].fd)) return;
      const bool on = (fds[i].revents & events) != 0;
      put(set, fds[i].fd, on);
      bits += on ? 1 : 0;
    };
    answer(in, readable_events);
    answer(out, writable_events);
    answer(except, except_events);
  }
  return bits;
}

}  // namespace

TOWPATH_EXPORT int poll(pollfd* fds, nfds_t count, int timeout) {
  bool handled;
  const int result = poll_milliseconds(fds, count, timeout, handled);
  return handled ? result : real().poll(fds, count, timeout);
}

TOWPATH_EXPORT int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t room) {
  bool handled;
  const int result = poll_milliseconds(fds, count, timeout, handled);
  return handled ? result : real().__poll_chk(fds, count, timeout, room);
}

TOWPATH_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  bool handled;
  const int result = poll_hook(fds, count, timeout, mask, handled);
  return handled ? result : real().ppoll(fds, count, timeout, mask);
}

TOWPATH_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, size_t room) {
  bool handled;
  const int result = poll_hook(fds, count, timeout, mask, handled);
  return handled ? result : real().__ppoll_chk(fds, count, timeout, mask, room);
}

TOWPATH_EXPORT int select(int count, fd_set* in, fd_set* out, fd_set* except, timeval* timeout) {
  if (!any_of_these_pending(count, in, out, except) || (timeout != nullptr && !readable(timeout, sizeof *timeout)))
    return real().select(count, in, out, except, timeout);
  if (timeout == nullptr) return select_by_poll(count, in, out, except, nullptr, nullptr);
  const timespec time{timeout->tv_sec, timeout->tv_usec * 1000};
  const std::int64_t end = now() + time.tv_sec * second + time.tv_nsec;
  const int result = select_by_poll(count, in, out, except, &time, nullptr);
  const std::int64_t rest = end > now() ? end - now() : 0;  // Linux tells how much was left
  *timeout = {rest / second, rest % second / 1000};
  return result;
}

TOWPATH_EXPORT int pselect(int count, fd_set* in, fd_set* out, fd_set* except, const timespec* timeout,
                           const sigset_t* mask) {
  if (!any_of_these_pending(count, in, out, except) || (timeout != nullptr && !readable(timeout, sizeof *timeout)))
    return real().pselect(count, in, out, except, timeout, mask);
  return select_by_poll(count, in, out, except, timeout, mask);
}
