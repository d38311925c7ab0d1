#include "agent/shelf.h"

#include <cstring>

#include <sys/socket.h>

namespace towpath {

namespace {

struct Parcel {
  std::uint64_t note = 0;
  iovec data{&note, sizeof note};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};

  Parcel() noexcept {
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof room;
  }
};

}  // namespace

std::optional<Shelf::Item> Shelf::take() const noexcept {
  Parcel parcel;
  if (recvmsg(out_, &parcel.message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return std::nullopt;
  const cmsghdr* head = CMSG_FIRSTHDR(&parcel.message);
  if (head == nullptr || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int))) return std::nullopt;
  int fd;
  std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
  return Item{UniqueFd(fd), parcel.note};
}

bool Shelf::put(int fd, std::uint64_t note) const noexcept {
  Parcel parcel;
  parcel.note = note;
  cmsghdr* head = CMSG_FIRSTHDR(&parcel.message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  return sendmsg(in_, &parcel.message, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof parcel.note);
}

}  // namespace towpath
