#include "agent/supervisor/listener.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

namespace towpath {

namespace {

constexpr int most_per_turn = 64;
// The calls of one filter are numbered one by one: an agent that died between taking a call and noting it leaves one
// with a number shortly after the last that it noted.
constexpr std::uint64_t most_unnoted = 64;

// Linux 6.6; the waiting thread and we change places on one processor.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
constexpr std::uint64_t sync_wake_up = 1;

// Room for what a newer kernel may add to the structure.
union Room {
  seccomp_notif notif;
  char bytes[512];
};

}  // namespace

bool Notice::valid() const noexcept { return ioctl(from->fd(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0; }
bool Notice::deliver(std::int64_t value) const noexcept { return from->send(id, value, 0, 0); }
bool Notice::deliver_error(int error) const noexcept { return from->send(id, 0, -error, 0); }
void Notice::go_on() const noexcept { from->send(id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE); }

Listener::Listener(Host& host, SocketWatch& sockets, PageWriter& page, UniqueFd fd, std::uint32_t key,
                   trap::Flavour flavour)
    : host_(host), sockets_(sockets), page_(page), fd_(std::move(fd)), key_(key), flavour_(flavour) {}

Listener::~Listener() {
  if (watched_) sockets_.drop(fd_.get(), this);
}

bool Listener::start() {
  ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, sync_wake_up);
  answer_orphans();
  return watched_ = sockets_.watch(fd_.get(), EPOLLIN, this);
}

void Listener::answer_orphans() noexcept {
  const std::uint64_t last = page_.last_notice(key_);
  for (std::uint32_t i = 0; i < page_notices; ++i)
    if (const std::uint64_t id = page_.take_notice(i, key_); id != 0) (void)send(id, 0, -ENETDOWN, 0);
  for (std::uint64_t id = last + 1; last != 0 && id <= last + most_unnoted; ++id)
    if (ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0) (void)send(id, 0, -ENETDOWN, 0);
}

bool Listener::receive(Notice& out) noexcept {
  // A call that was shown as waiting may be gone by now; to receive without looking again would wait for the next.
  pollfd look{fd_.get(), POLLIN, 0};
  if (poll(&look, 1, 0) != 1 || (look.revents & POLLIN) == 0) return false;
  Room room{};
  if (ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_RECV, &room.notif) != 0) return errno == ENOENT || errno == EINTR;
  out = {this, room.notif.id, static_cast<pid_t>(room.notif.pid), room.notif.data};
  if (!page_.note_notice(out.id, key_)) {
    out.fail(EAGAIN);  // more calls wait than there is room for
    out.id = 0;
  }
  return true;
}

bool Listener::send(std::uint64_t id, std::int64_t value, int error, std::uint32_t flags) noexcept {
  seccomp_notif_resp response{};
  response.id = id;
  response.val = value;
  response.error = error;
  response.flags = flags;
  int result;
  do result = ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
  while (result != 0 && errno == EINTR);
  page_.forget_notice(id, key_);
  return result == 0;
}

int Listener::inject(const Notice& notice, int fd, bool close_on_exec) noexcept {
  seccomp_notif_addfd request{};
  request.id = notice.id;
  request.srcfd = static_cast<__u32>(fd);
  request.newfd_flags = close_on_exec ? O_CLOEXEC : 0;
  request.flags = SECCOMP_ADDFD_FLAG_SEND;
  int number = ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &request);
  if (number >= 0) {
    page_.forget_notice(notice.id, key_);
    return number;
  }
  if (errno != EINVAL) return -errno;
  request.flags = 0;  // before Linux 5.14: in two steps
  number = ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &request);
  if (number < 0) return -errno;
  notice.result(number);
  return number;
}

void Listener::on_socket_ready(std::uint32_t events) {
  for (int i = 0; i < most_per_turn; ++i) {
    Notice notice;
    if (!receive(notice)) break;
    if (notice.id != 0) host_.on_notice(notice);
  }
  if ((events & EPOLLHUP) != 0) host_.on_tree_ended(*this);  // destroys us
}

}  // namespace towpath
