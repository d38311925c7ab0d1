// Sockets and epoll sets that are made here because their program's descriptors cannot be taken (Births), and calls of
// foreign architectures.
#include <cerrno>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "agent/supervisor/supervisor.h"

namespace towpath {

void Supervisor::make_socket(const Notice& notice) {
  // In another network namespace it would be a way out of that. It is made there by the kernel, and may not be
  // tunnelled.
  if (!same_network(notice.tid)) return notice.go_on();
  if (births_.wants_sweep()) sweep_births();
  const int domain = notice.descriptor(0), type = notice.descriptor(1), protocol = notice.descriptor(2);
  // What takes privileges (raw sockets, ping) is made by the kernel for the program's own.
  const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
  const bool plain = (kind == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)) ||
                     (kind == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE));
  if (!plain) return notice.go_on();
  UniqueFd copy(::socket(domain, type | SOCK_CLOEXEC, protocol));
  if (!copy && (errno == EMFILE || errno == ENFILE)) {
    sweep_births();
    copy.reset(::socket(domain, type | SOCK_CLOEXEC, protocol));
  }
  if (!copy) return errno == EMFILE || errno == ENFILE ? full(notice) : notice.fail(errno);
  Births::Born born;
  born.domain = domain;
  born.type = kind;
  socklen_t size = sizeof born.cookie;
  ::getsockopt(copy.get(), SOL_SOCKET, SO_COOKIE, &born.cookie, &size);
  const std::uint64_t inode = socket_inode(copy.get());
  const int number = notice.from->inject(notice, copy.get(), (type & SOCK_CLOEXEC) != 0);
  if (number < 0) return notice.fail(-number);
  note_process(notice.tid);
  born.copy = std::move(copy);
  births_.add(inode, std::move(born));
  watch_time();
}

void Supervisor::make_epoll(const Notice& notice) {
  const bool old = notice.data.nr != SYS_epoll_create1;
  const int argument = notice.descriptor(0);
  if (old ? argument <= 0 : (argument & ~EPOLL_CLOEXEC) != 0) return notice.fail(EINVAL);
  UniqueFd copy(epoll_create1(EPOLL_CLOEXEC));
  if (!copy) return errno == EMFILE || errno == ENFILE ? full(notice) : notice.fail(errno);
  const int number = notice.from->inject(notice, copy.get(), !old && argument != 0);
  if (number < 0) return notice.fail(-number);
  const pid_t process = tasks_.process_of(notice.tid);
  note_process(notice.tid);
  if (const std::uint64_t marker = births_.add_epoll(process, number, std::move(copy)); marker != 0)
    (void)shelf_.put(births_.epolls().at(marker).get(), epoll_note | marker);
  watch_time();
}

// A copy of a socket that the program has closed would still have its port.
void Supervisor::bind(const Notice& notice) {
  if (births_.any_bound()) sweep_births();
  if (Births::Born* born = births_.find(socket_inode(notice.tid, notice.descriptor(0)))) born->bound = true;
  notice.go_on();
}

// Nothing more is asked of a listener, and a copy would keep it listening.
void Supervisor::listen(const Notice& notice) {
  // Where accept is managed, every accept needs it; a close is noticed by the sweep then.
  const std::uint64_t inode = socket_inode(notice.tid, notice.descriptor(0));
  if (!notice.from->flavour().inbound) births_.let_go(inode);
  else if (Births::Born* born = births_.find(inode); born != nullptr && born->copy && !born->listens)
    born->listens = shelf_.put(born->copy.get(), born_note);
  notice.go_on();
}

void Supervisor::foreign_call(const Notice& notice) {
#if defined(__x86_64__)
  constexpr int socketcall = 102, socket_call = 359;
#else
  constexpr int socketcall = -1, socket_call = 281;
#endif
  std::uint32_t domain = AF_INET;  // of a connect: that it is none cannot be told cheaply
  if (notice.data.nr == socket_call) domain = static_cast<std::uint32_t>(notice.data.args[0]);
  if (notice.data.nr == socketcall) {
    const auto what = notice.data.args[0];  // 1: socket, 3: connect
    // sendto, sendmsg, sendmmsg: whether with fast open stands in memory only.
    if (what == 11 || what == 16 || what == 20) return notice.fail(EOPNOTSUPP);
    if (what != 1 && what != 3) return notice.go_on();
    if (what == 1 && read_memory(notice.tid, notice.data.args[1] & 0xffffffff, &domain, sizeof domain) != 0)
      return notice.fail(EFAULT);
  }
  if (domain != AF_INET && domain != AF_INET6) return notice.go_on();
  refuse(notice, "a program of another architecture than towpath's cannot be tunnelled",
         "run a 64-bit build of it, or run it outside of towpath");
}

}  // namespace towpath
