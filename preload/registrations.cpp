#include "preload/registrations.h"

#include <atomic>

#include <fcntl.h>

#include "base/sys.h"

namespace towpath {

namespace {

struct Noted {
  int number = -1;  // of the connect that will look; the registration's own, unless it was duplicated
  wire::Registration registration{};
};

// Numbers that share a bucket displace each other, the oldest first.
struct Bucket {
  std::atomic<bool> busy;
  std::uint8_t next;  // to be displaced
  std::uint8_t size;
  Noted noted[4];
};

constexpr std::size_t buckets = 2048;
constinit Bucket table[buckets]{};
constinit std::atomic<bool> used{false};

// Another thread needs a bucket for some instructions only. A signal handler that meets its own thread in there goes
// on without: a program cannot expect an order of such calls.
class Held {
 public:
  explicit Held(int number) noexcept : bucket_(table[static_cast<unsigned>(number) % buckets]) {
    constexpr int tries = 10'000;
    for (int i = 0; i < tries && !mine_; ++i) mine_ = !bucket_.busy.exchange(true, std::memory_order_acquire);
  }
  ~Held() {
    if (mine_) bucket_.busy.store(false, std::memory_order_release);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  explicit operator bool() const noexcept { return mine_; }
  Bucket* operator->() const noexcept { return &bucket_; }

 private:
  Bucket& bucket_;
  bool mine_ = false;
};

void put(int number, const wire::Registration& registration) noexcept {
  const Held bucket(number);
  if (!bucket) return;
  constexpr auto room = static_cast<std::uint8_t>(std::size(Bucket{}.noted));
  for (std::uint8_t i = 0; i < bucket->size; ++i) {
    Noted& each = bucket->noted[i];
    if (each.number == number && each.registration.epoll == registration.epoll &&
        each.registration.fd == registration.fd) {
      each.registration = registration;
      return;
    }
  }
  if (bucket->size < room) {
    bucket->noted[bucket->size++] = {number, registration};
  } else {
    bucket->noted[bucket->next] = {number, registration};
    bucket->next = static_cast<std::uint8_t>((bucket->next + 1) % room);
  }
}

// Removes what `matches`, handing it to it.
template <class F>
void take(int number, F&& matches) noexcept {
  const Held bucket(number);
  if (!bucket) return;
  std::uint8_t kept = 0;
  for (std::uint8_t i = 0; i < bucket->size; ++i) {
    if (bucket->noted[i].number == number && matches(bucket->noted[i].registration)) continue;
    bucket->noted[kept++] = bucket->noted[i];
  }
  bucket->size = kept;
  bucket->next = 0;
}

}  // namespace

void remember_registration(int epoll, int operation, int fd, const epoll_event* event) noexcept {
  if (operation == EPOLL_CTL_DEL) {
    if (!used.load(std::memory_order_relaxed)) return;
    return take(fd, [&](const wire::Registration& each) { return each.epoll == epoll && each.fd == fd; });
  }
  // The kernel has read the event just now.
  used.store(true, std::memory_order_relaxed);
  put(fd, {fd, epoll, event->events, 0, event->data.u64});
}

void registrations_follow(int from, int to) noexcept {
  if (!used.load(std::memory_order_relaxed) || from == to) return;
  std::array<wire::Registration, wire::max_registrations> all;
  std::size_t count = 0;
  take(from, [&](const wire::Registration& each) {
    all[count++] = each;
    return false;
  });
  for (std::size_t i = 0; i < count; ++i) put(to, all[i]);
}

std::size_t find_registrations(int fd, std::array<wire::Registration, wire::max_registrations>& out) noexcept {
  std::size_t count = 0;
  if (!used.load(std::memory_order_relaxed)) return 0;
  take(fd, [&](const wire::Registration& each) {
    // The set's number may have been closed or reused since: the agent checks that it is an epoll set.
    if (sys::call(SYS_fcntl, each.epoll, F_GETFD) >= 0) out[count++] = each;
    return true;
  });
  return count;
}

}  // namespace towpath
