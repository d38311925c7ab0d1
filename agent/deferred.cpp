#include "agent/deferred.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "agent/signals_blocked.h"
#include "agent/spare_descriptors.h"
#include "agent/supervisor/tasks.h"

namespace towpath {

namespace {

// epoll_ctl with `socket` standing at descriptor number `number`. Whatever the agent has at that number is moved aside
// and back: its own registrations stay valid, since the file keeps a reference and returns to the same number.
// Nobody may write to the number meanwhile, or it would be written into the program's socket: the agent has one thread,
// and libuv's signal handlers, whose pipe may live there, have to wait.
int epoll_ctl_at(int number, int socket, int epoll, int operation, epoll_event* event) noexcept {
  if (number == socket) return epoll_ctl(epoll, operation, socket, event) == 0 ? 0 : errno;
  const SignalsBlocked alone;
  // One to move aside what stands at the number, one for the epoll set when that is it.
  const SpareDescriptors room;
  const UniqueFd epoll_copy(number == epoll ? fcntl(epoll, F_DUPFD_CLOEXEC, 3) : -1);
  if (number == epoll) {
    if (!epoll_copy) return errno;
    epoll = epoll_copy.get();
  }
  UniqueFd aside;
  if (fcntl(number, F_GETFD) >= 0) {
    aside.reset(fcntl(number, F_DUPFD_CLOEXEC, 3));
    if (!aside) return errno;
  }
  int result = dup3(socket, number, O_CLOEXEC) == -1 ? errno : 0;
  if (result == 0 && epoll_ctl(epoll, operation, number, event) != 0) result = errno;
  if (aside) dup3(aside.get(), number, O_CLOEXEC);
  else close(number);
  return result;
}

// Made when the first agent is, while there is room.
int nowhere_registered() noexcept {
  static const UniqueFd fd(eventfd(0, EFD_CLOEXEC));
  return fd.get();
}

epoll_event event_of(const wire::Registration& wanted) noexcept {
  epoll_event event{};
  event.events = wanted.events;
  event.data.u64 = wanted.data;
  return event;
}

bool same_wish(const wire::Registration& a, const wire::Registration& b) noexcept {
  return a.events == b.events && a.data == b.data;
}

}  // namespace

bool is_epoll_set(int fd) noexcept {
  // Deleting what is not in a set gives ENOENT; a descriptor that is no set gives EINVAL.
  return epoll_ctl(fd, EPOLL_CTL_DEL, nowhere_registered(), nullptr) == -1 && errno == ENOENT;
}

DeferredRegistrations::DeferredRegistrations(int bell) : bell_(bell) { (void)nowhere_registered(); }

DeferredRegistrations::Entry* DeferredRegistrations::find(pid_t pid, const wire::Registration& key) noexcept {
  for (Entry& entry : entries_)
    if (entry.pid == pid && entry.wanted.epoll == key.epoll && entry.wanted.fd == key.fd) return &entry;
  return nullptr;
}

// Nothing but the end of this process is to be seen through it, and that once.
void DeferredRegistrations::stand_in(const Entry& entry, int operation) const noexcept {
  if (bell_ < 0) return;
  epoll_event event = event_of(entry.wanted);
  event.events = EPOLLONESHOT;
  epoll_ctl_at(entry.wanted.fd, bell_, entry.epoll.get(), operation, &event);
}

int DeferredRegistrations::apply(pid_t pid, int operation, const wire::Registration& asked, UniqueFd epoll,
                                 bool check) {
  if (!epoll || !is_epoll_set(epoll.get()) || asked.fd < 0) return EINVAL;
  Entry* known = find(pid, asked);
  switch (operation) {
    case EPOLL_CTL_ADD:
      // The same once more: an interrupted call whose answer came too late to be taken back (kernels before 6.18 lose
      // it even where WAIT_KILLABLE_RECV is set).
      if (known != nullptr) return check && same_wish(known->wanted, asked) ? 0 : EEXIST;
      if (entries_.size() == most) return ENOSPC;
      entries_.push_back({pid, asked, std::move(epoll), check});
      stand_in(entries_.back(), EPOLL_CTL_ADD);
      return 0;
    case EPOLL_CTL_MOD:
      if (known == nullptr) return ENOENT;
      known->wanted = asked;
      stand_in(*known, EPOLL_CTL_MOD);
      return 0;
    case EPOLL_CTL_DEL:
      if (known == nullptr) return ENOENT;
      take_back(pid, asked);
      return 0;
    default: return EINVAL;
  }
}

void DeferredRegistrations::take_back(pid_t pid, const wire::Registration& made) {
  Entry* known = find(pid, made);
  if (known == nullptr) return;
  stand_in(*known, EPOLL_CTL_DEL);
  entries_.erase(entries_.begin() + (known - entries_.data()));
}

void DeferredRegistrations::withdraw(pid_t pid, int socket, const wire::Registration& made, UniqueFd epoll) {
  if (!epoll || !is_epoll_set(epoll.get()) || made.fd < 0 || entries_.size() == most) return;
  // Gone from the set meanwhile: then it is not to come back either.
  if (epoll_ctl_at(made.fd, socket, epoll.get(), EPOLL_CTL_DEL, nullptr) != 0) return;
  entries_.push_back({pid, made, std::move(epoll), false});
  stand_in(entries_.back(), EPOLL_CTL_ADD);
}

void DeferredRegistrations::forget(pid_t pid, int fd) noexcept {
  std::erase_if(entries_, [&](const Entry& entry) {
    if (entry.pid != pid || entry.wanted.fd != fd) return false;
    stand_in(entry, EPOLL_CTL_DEL);
    return true;
  });
}

void DeferredRegistrations::make_real(const Entry& entry, int socket) noexcept {
  const auto given_up = [&] { return entry.check && socket_inode(entry.pid, entry.wanted.fd) != socket_inode(socket); };
  if (given_up()) return;
  epoll_event event = event_of(entry.wanted);
  const int result = epoll_ctl_at(entry.wanted.fd, socket, entry.epoll.get(), EPOLL_CTL_ADD, &event);
  // In the set already, by a way that towpath did not see: the newer wish counts.
  if (result == EEXIST) epoll_ctl_at(entry.wanted.fd, socket, entry.epoll.get(), EPOLL_CTL_MOD, &event);
  if (given_up()) epoll_ctl_at(entry.wanted.fd, socket, entry.epoll.get(), EPOLL_CTL_DEL, nullptr);
}

void DeferredRegistrations::release(int socket) {
  for (Entry& entry : entries_) {
    make_real(entry, socket);
    stand_in(entry, EPOLL_CTL_DEL);
  }
  entries_.clear();
}

}  // namespace towpath
