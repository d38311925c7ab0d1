// What supervised programs ask about their sockets, and how they wait for them.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/attempt.h"
#include "agent/supervisor/supervisor.h"

namespace towpath {

// A signal that comes just after the answer loses it (kernels before 6.18 even where WAIT_KILLABLE_RECV is set): the
// same call is made once more, and when the handshake has ended in between the socket is in the set already.
bool Supervisor::was_answered(const Notice& notice, std::uint64_t cookie) {
  const auto at = answered_adds_.find(cookie);
  if (at == answered_adds_.end()) return false;
  epoll_event event{};
  const AnsweredAdd before = at->second;
  answered_adds_.erase(at);
  return before.tid == notice.tid && before.epoll == notice.descriptor(0) && before.fd == notice.descriptor(2) &&
         read_memory(notice.tid, notice.data.args[3], &event, sizeof event) == 0 && event.events == before.events &&
         event.data.u64 == before.data;
}

void Supervisor::note_answer(const Notice& notice, std::uint64_t cookie, const wire::Registration& made) {
  answered_adds_[cookie] = {notice.tid, made.epoll, made.fd, made.events, made.data, uv_now(parts_.loop)};
}

void Supervisor::forget_answers() {
  constexpr std::uint64_t long_enough_ms = 1000;
  const std::uint64_t now = uv_now(parts_.loop);
  if (answered_adds_.empty() || now - answers_looked_at_ms_ < long_enough_ms) return;
  answers_looked_at_ms_ = now;
  std::erase_if(answered_adds_, [now](const auto& each) { return now - each.second.at_ms >= long_enough_ms; });
}

// Nothing in a handshake: the kernel's business, and most calls are.
void Supervisor::epoll_ctl(const Notice& notice) {
  forget_answers();
  const bool adds = notice.descriptor(1) == EPOLL_CTL_ADD && !answered_adds_.empty();
  if (!parts_.judge.any_attempt() && !adds) return notice.go_on();
  Target socket;
  if (!inspect(notice, notice.descriptor(2), socket))
    return errno == EMFILE || errno == ENFILE ? full(notice, ENOMEM) : notice.go_on();
  Attempt* attempt = parts_.judge.find(socket.cookie);
  if (attempt == nullptr || attempt->order().native || attempt->quiet())
    return adds && was_answered(notice, socket.cookie) ? notice.result(0) : notice.go_on();
  const pid_t process = tasks_.process_of(notice.tid);
  wire::Registration wanted{};
  wanted.epoll = notice.descriptor(0);
  wanted.fd = notice.descriptor(2);
  const int operation = notice.descriptor(1);
  if (operation != EPOLL_CTL_DEL) {
    epoll_event event{};
    if (const int error = read_memory(notice.tid, notice.data.args[3], &event, sizeof event); error != 0)
      return notice.fail(EFAULT);
    wanted.events = event.events;
    wanted.data = event.data.u64;
  }
  UniqueFd epoll = notice.from->flavour().births ? births_.epoll(process, wanted.epoll)
                                                 : tasks_.take_descriptor(notice.tid, wanted.epoll);
  if (!epoll || !notice.valid()) return notice.fail(EBADF);
  const int error = attempt->registrations().apply(process, operation, wanted, std::move(epoll), true);
  // Not deferred, but perhaps in the set since before the connect.
  if (error == ENOENT) return notice.go_on();
  if (error != 0) return notice.fail(error);
  // A call that a signal has interrupted is made again, and must not find its own registration.
  if (notice.deliver(0)) {
    if (operation == EPOLL_CTL_ADD) note_answer(notice, socket.cookie, wanted);
  } else if (operation == EPOLL_CTL_ADD) {
    attempt->registrations().take_back(process, wanted);
  }
}

// SO_ERROR is the verdict: 0 while there is none, the true errno once.
void Supervisor::getsockopt(const Notice& notice) {
  Target socket;
  if (!inspect(notice, notice.descriptor(0), socket)) return notice.go_on();
  if (notice.descriptor(2) == SO_PEERNAME) {
    if (!show_client(notice, socket, notice.data.args[3], notice.data.args[4])) notice.go_on();
    return;
  }
  const PageEntry* entry = find_socket(parts_.page.page(), socket.cookie);
  if (entry == nullptr) return notice.go_on();
  const SocketState state = entry->state.load();
  if (state != SocketState::pending && state != SocketState::failed && state != SocketState::lost)
    return notice.go_on();
  std::int32_t room = 0;
  if (read_memory(notice.tid, notice.data.args[4], &room, sizeof room) != 0) return notice.fail(EFAULT);
  if (room < 0) return notice.fail(EINVAL);
  if (!notice.valid()) return notice.fail(EINTR);
  std::int32_t error = state == SocketState::lost ? ENETDOWN : 0;
  if (state == SocketState::failed && socket.fd) {
    // It was made to fail natively, so that the kernel keeps "once" for us; only the number is ours.
    socklen_t size = sizeof error;
    ::getsockopt(socket.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) error = entry->error.load();
  }
  room = std::min<std::int32_t>(room, sizeof error);
  if (write_memory(notice.tid, notice.data.args[3], &error, static_cast<std::size_t>(room)) != 0 ||
      write_memory(notice.tid, notice.data.args[4], &room, sizeof room) != 0)
    return notice.fail(EFAULT);
  notice.result(0);
}

void Supervisor::getpeername(const Notice& notice) {
  if (notice.descriptor(0) == trap::probe_descriptor && notice.data.args[1] == trap::probe_address) {
    std::uint64_t half = 0;
    std::memcpy(&half, token_.data(), sizeof half);
    return half == notice.data.args[2] ? notice.result(trap::probe_answer) : notice.fail(EBADF);
  }
  Target socket;
  if (!inspect(notice, notice.descriptor(0), socket)) return notice.go_on();
  const PageEntry* entry = find_socket(parts_.page.page(), socket.cookie);
  if (entry == nullptr) {
    if (!show_client(notice, socket, notice.data.args[1], notice.data.args[2])) notice.go_on();
    return;
  }
  const SocketState state = entry->state.load();
  if (state == SocketState::failed) return notice.go_on();  // connected since, perhaps, and not by us
  if (state == SocketState::pending || state == SocketState::lost) return notice.fail(ENOTCONN);
  sockaddr_storage own;
  socklen_t own_size = sizeof own;
  // Never connected, or not any more.
  if (socket.fd && ::getpeername(socket.fd.get(), reinterpret_cast<sockaddr*>(&own), &own_size) != 0)
    return notice.fail(errno);
  sockaddr_storage shown;
  const socklen_t full = target_of(*entry).to(shown, socket.domain);
  std::int32_t room = 0;
  if (full == 0) return notice.go_on();
  if (read_memory(notice.tid, notice.data.args[2], &room, sizeof room) != 0) return notice.fail(EFAULT);
  if (room < 0) return notice.fail(EINVAL);
  if (!notice.valid()) return notice.fail(EINTR);
  const auto part = std::min<std::size_t>(static_cast<std::size_t>(room), full);
  if (write_memory(notice.tid, notice.data.args[1], &shown, part) != 0 ||
      write_memory(notice.tid, notice.data.args[2], &full, sizeof full) != 0)
    return notice.fail(EFAULT);
  notice.result(0);
}

}  // namespace towpath
