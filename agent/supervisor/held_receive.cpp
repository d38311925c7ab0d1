#include "agent/supervisor/held_receive.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/supervisor/tasks.h"
#include "agent/supervisor/patience.h"

namespace towpath {

namespace {

constexpr std::size_t most_bytes = 65536;
constexpr int restart_after_signal = 512;

}  // namespace

HeldReceive::HeldReceive(Host& host, SocketWatch& sockets, const PageWriter& page, const Notice& notice,
                         UniqueFd socket, int flags, Incoming where)
    : host_(host),
      sockets_(sockets),
      page_(page),
      notice_(notice),
      socket_(std::move(socket)),
      flags_(flags),
      where_(std::move(where)) {
  std::size_t room = 0;
  for (const iovec& each : where_.parts) room += std::min(each.iov_len, most_bytes);
  bytes_.resize(std::min(room, most_bytes));
}

HeldReceive::~HeldReceive() {
  if (watched_) sockets_.drop(socket_.get(), this);
}

int HeldReceive::deliver(std::size_t size, std::size_t full, sockaddr_storage& from, socklen_t from_size, int flags) {
  std::size_t at = 0;
  for (const iovec& each : where_.parts) {
    const std::size_t part = std::min(each.iov_len, size - at);
    if (part == 0) break;
    const int error =
        write_memory(notice_.tid, reinterpret_cast<std::uint64_t>(each.iov_base), bytes_.data() + at, part);
    if (error != 0) return error;
    at += part;
  }
  const Endpoint door = Endpoint::from(reinterpret_cast<sockaddr*>(&from), from_size);
  if (const Endpoint server = asked_server(page_.page(), door); server.address) {
    sockaddr_storage shown;
    if (const socklen_t shown_size = server.to(shown, from.ss_family); shown_size != 0) {
      from = shown;
      from_size = shown_size;
    }
  }
  if (where_.address != 0) {
    const auto part = std::min<std::size_t>(where_.room, from_size);
    if (const int error = write_memory(notice_.tid, where_.address, &from, part); error != 0) return error;
  }
  if (where_.address_size != 0)
    if (const int error = write_memory(notice_.tid, where_.address_size, &from_size, sizeof from_size); error != 0)
      return error;
  if (where_.message_flags != 0) (void)write_memory(notice_.tid, where_.message_flags, &flags, sizeof flags);
  const std::size_t no_control = 0;
  if (where_.control_size != 0) (void)write_memory(notice_.tid, where_.control_size, &no_control, sizeof no_control);
  notice_.result(static_cast<std::int64_t>((flags_ & MSG_TRUNC) != 0 ? full : size));
  return 0;
}

bool HeldReceive::try_now(bool wait) {
  sockaddr_storage from{};
  iovec data{bytes_.data(), bytes_.size()};
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof from;
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  const ssize_t got = recvmsg(socket_.get(), &message, (flags_ & (MSG_PEEK | MSG_ERRQUEUE)) | MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0 && errno == EAGAIN && wait) return false;
  if (got < 0) {
    notice_.fail(errno);
    return true;
  }
  const auto full = static_cast<std::size_t>(got);
  const std::size_t size = std::min(full, bytes_.size());
  if (const int error = deliver(size, full, from, message.msg_namelen, message.msg_flags); error != 0)
    notice_.fail(error);
  return true;
}

bool HeldReceive::start(uv_loop_t* loop, const timeval& patience) {
  watched_ = sockets_.watch(socket_.get(), EPOLLIN, this);
  if (!watched_) return false;
  start_patience(patience_, loop, patience, this, [](uv_timer_t* handle) {
    auto& self = *static_cast<HeldReceive*>(handle->data);
    self.notice_.fail(EAGAIN);
    self.host_.on_released(self);
  });
  return true;
}

void HeldReceive::look_for_signals() {
  if (notice_.valid() && !signal_waits(notice_.tid)) return;
  notice_.fail(restart_after_signal);
  host_.on_released(*this);
}

void HeldReceive::on_socket_ready(std::uint32_t) {
  if (!notice_.valid()) notice_.fail(EINTR);
  else if (!try_now(true)) return;
  host_.on_released(*this);
}

}  // namespace towpath
