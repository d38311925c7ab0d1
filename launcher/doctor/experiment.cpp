#include "launcher/doctor/experiment.h"

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/supervisor/tasks.h"
#include "base/sys.h"
#include "launcher/doctor/child.h"
#include "proto/wire.h"

namespace towpath::doctor {

namespace {

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

constexpr wire::Token token{'d', 'o', 'c', 't', 'o', 'r'};

struct Ends {
  UniqueFd in, out;
};

bool open_pipe(Ends& ends) {
  int both[2];
  if (pipe2(both, O_CLOEXEC) != 0) return false;
  ends.in.reset(both[0]);
  ends.out.reset(both[1]);
  return true;
}

// Nobody is ever connected: the call is answered by the supervisor.
sockaddr_in destination() {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  out.sin_port = htons(9);  // discard
  return out;
}

// The program. From its filter on only system calls without libc, as in any program between fork and exec.
void be_program(uid_t user, int connection, int report) {
  if (const int error = become(user); error != 0) {
    const int message[2] = {-1, error};
    (void)!write(report, message, sizeof message);
    return;
  }
  const trap::Entered entered = trap::enter(connection, token, {});
  const int message[2] = {static_cast<int>(entered.step), entered.error};
  (void)!write(report, message, sizeof message);
  if (entered.step != trap::Step::entered) return;
  const sockaddr_in to = destination();
  const long fd = sys::call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const long given = sys::call(SYS_connect, fd, &to, sizeof to);
  if (given > 2) sys::call(SYS_write, given, "k", 1);
}

// What the agent does, one call after the other.
class Examiner {
 public:
  explicit Examiner(Findings& findings) : found_(findings) {}

  void run(uid_t user) {
    int pair[2];
    Ends report;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 || !open_pipe(report) || !open_pipe(proof_)) {
      found_.error = errno;
      return;
    }
    connection_.reset(pair[0]);
    UniqueFd theirs(pair[1]);
    Child program([&] {
      connection_.reset();
      proof_.out.reset();
      be_program(user, theirs.get(), report.out.get());
    });
    found_.error = program.pid() == -1 ? errno : 0;
    theirs.reset();
    report.out.reset();
    report_ = std::move(report.in);
    const time_t until = time(nullptr) + patience_seconds - 2;
    while (found_.error == 0 && !over_ && time(nullptr) < until) step();
    if (found_.error == 0 && found_.filter == -1) found_.filter = ETIMEDOUT;
  }

 private:
  void step() {
    pollfd events[] = {{connection_.get(), POLLIN, 0},
                       {report_.get(), POLLIN, 0},
                       {listener_.get(), POLLIN, 0},
                       {proof_.in.get(), POLLIN, 0}};
    if (poll(events, 4, 500) <= 0) return;
    if ((events[0].revents & POLLIN) != 0) take_listener();
    else if (events[0].revents != 0) connection_.reset();
    if (events[1].revents != 0) read_report();
    if ((events[2].revents & POLLIN) != 0) take_notice();
    else if ((events[2].revents & POLLHUP) != 0) over_ = true;
    if ((events[3].revents & POLLIN) != 0) {
      found_.inject = 0;
      over_ = true;
    }
  }

  void read_report() {
    int message[2] = {};
    const bool whole = read(report_.get(), message, sizeof message) == sizeof message;
    report_.reset();
    if (whole && message[0] == -1) {
      found_.error = message[1];
    } else if (whole) {
      found_.step = static_cast<trap::Step>(message[0]);
      found_.filter = found_.step == trap::Step::entered ? 0 : message[1];
    }
    over_ = over_ || !whole || found_.filter != 0;
    if (!whole && found_.filter == -1) found_.filter = ECONNRESET;  // killed by the filter that refuses it
  }

  void take_listener() {
    std::byte packet[wire::max_message];
    iovec data{packet, sizeof packet};
    alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int) * wire::max_descriptors)] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = room;
    message.msg_controllen = sizeof room;
    const ssize_t got = recvmsg(connection_.get(), &message, MSG_CMSG_CLOEXEC);
    wire::Message ask{};
    const cmsghdr* head = CMSG_FIRSTHDR(&message);
    if (got <= 0 || head == nullptr || head->cmsg_type != SCM_RIGHTS) return;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
    listener_.reset(fd);
    if (!wire::decode({packet, static_cast<std::size_t>(got)}, ask)) return;
    found_.births = trap::Flavour::of(ask.supervise_flavour).births;
    found_.wakes_sync = ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1ul) == 0;
    wire::Reply reply;
    reply.kind = wire::Answer::done;
    const std::size_t size = wire::encode(packet, reply);
    (void)!send(connection_.get(), packet, size, MSG_NOSIGNAL);
  }

  void take_notice() {
    union {
      seccomp_notif notif;
      char bytes[512];
    } room{};
    if (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &room.notif) != 0) {
      if (errno != EINTR && errno != ENOENT) found_.notification = errno;
      over_ = found_.notification > 0;
      return;
    }
    const seccomp_notif& call = room.notif;
    if (call.data.nr == SYS_socket) {
      const UniqueFd made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (!inject(call.id, made.get())) over_ = true;
    } else if (call.data.nr == SYS_connect) {
      found_.notification = 0;
      look_into(call);
      if (!inject(call.id, proof_.out.get())) over_ = true;
    } else {
      answer(call.id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
    }
  }

  void look_into(const seccomp_notif& call) {
    const auto tid = static_cast<pid_t>(call.pid);
    const auto number = static_cast<int>(call.data.args[0]);
    sockaddr_in seen{};
    const sockaddr_in right = destination();
    found_.memory = read_memory(tid, call.data.args[1], &seen, sizeof seen);
    if (found_.memory == 0 && std::memcmp(&seen, &right, sizeof seen) != 0) found_.memory = EILSEQ;
    Tasks tasks;
    found_.take = tasks.take_descriptor(tid, number) ? 0 : errno;
    found_.descriptors = socket_inode(tid, number) != 0 ? 0 : errno;
  }

  // The call returns the descriptor's number in the program.
  bool inject(std::uint64_t id, int fd) {
    seccomp_notif_addfd request{};
    request.id = id;
    request.srcfd = static_cast<__u32>(fd);
    request.newfd_flags = O_CLOEXEC;
    const int number = ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &request);
    if (number < 0) found_.inject = errno;
    return number >= 0 && answer(id, number, 0);
  }

  bool answer(std::uint64_t id, std::int64_t value, std::uint32_t flags) {
    seccomp_notif_resp response{};
    response.id = id;
    response.val = value;
    response.flags = flags;
    return ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
  }

  Findings& found_;
  UniqueFd connection_, report_, listener_;
  Ends proof_;
  bool over_ = false;
};

}  // namespace

Findings try_supervision(uid_t supervisor, uid_t program) {
  Findings found;
  Ends result;
  if (!open_pipe(result)) {
    found.error = errno;
    return found;
  }
  Child examiner([&] {
    Findings mine;
    mine.error = become(supervisor);
    if (mine.error == 0) Examiner(mine).run(program);
    (void)!write(result.out.get(), &mine, sizeof mine);
  });
  if (examiner.pid() == -1) {
    found.error = errno;
    return found;
  }
  result.out.reset();
  pollfd look{result.in.get(), POLLIN, 0};
  found.error = ETIMEDOUT;
  if (poll(&look, 1, static_cast<int>(patience_seconds) * 1000) == 1 &&
      read(result.in.get(), &found, sizeof found) != sizeof found)
    found.error = ECONNRESET;
  return found;
}

// The flags are looked at before the program: EFAULT says that they are known (seccomp(2)).
bool knows_filter_flag(unsigned long flag) noexcept {
  return sys::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | flag, 0) == -EFAULT;
}

}  // namespace towpath::doctor
