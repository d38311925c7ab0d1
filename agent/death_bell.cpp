#include "agent/death_bell.h"

#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace towpath {

namespace {

constexpr std::size_t most_rung = 8;

struct Parcel {
  char byte = 'b';
  iovec data{&byte, 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};

  Parcel() noexcept {
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof room;
  }
};

UniqueFd take(int shelf) {
  Parcel parcel;
  if (recvmsg(shelf, &parcel.message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return {};
  const cmsghdr* head = CMSG_FIRSTHDR(&parcel.message);
  if (head == nullptr || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int))) return {};
  int fd;
  std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
  return UniqueFd(fd);
}

bool put(int shelf, int fd) {
  Parcel parcel;
  cmsghdr* head = CMSG_FIRSTHDR(&parcel.message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  return sendmsg(shelf, &parcel.message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

}  // namespace

void DeathBell::hang(int shelf_in, int shelf_out) {
  if (shelf_in < 0 || shelf_out < 0) return;
  while (UniqueFd old = take(shelf_out)) {
    if (rung_.size() == most_rung) rung_.erase(rung_.begin());
    rung_.push_back(std::move(old));
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  ear_.reset(ends[0]);
  rope_.reset(ends[1]);
  for (const UniqueFd& old : rung_) put(shelf_in, old.get());
  if (!put(shelf_in, ear_.get())) ear_.reset();
}

}  // namespace towpath
