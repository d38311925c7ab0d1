#include "preload/net.h"

#include <atomic>
#include <cerrno>
#include <cstring>

#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "preload/process.h"
#include "preload/real.h"
#include "trap/enter.h"

namespace towpath {

namespace {

constinit std::atomic<std::uint64_t> fifth{0}, sixth{0};
constinit std::atomic<bool> births{false};
// undecided: nothing in the environment says. absent: there is none, and nobody is to try.
enum class Known : int { not_looked, undecided, absent, yes };
constinit std::atomic<Known> known{Known::not_looked};

constexpr char digits[] = "0123456789abcdef";
constexpr std::string_view no_net = "none";
constexpr std::string_view births_mark = ":b";

int digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool parse(std::string_view text, wire::Token& token, bool& makes_sockets) noexcept {
  constexpr std::size_t size = 2 * sizeof token;
  if (text.size() < size) return false;
  std::string_view rest = text;
  rest.remove_prefix(size);
  makes_sockets = rest == births_mark;
  if (!rest.empty() && !makes_sockets) return false;
  for (std::size_t i = 0; i < token.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    token[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return true;
}

// The variable may have come out of a tree without the tree's filter.
bool is_filtered() noexcept { return sys::call(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER; }

Known look() noexcept {
  const Known found = known.load(std::memory_order_acquire);
  if (found != Known::not_looked) return found;
  wire::Token token;
  bool makes_sockets = false;
  if (active() && parse(environment(net_variable), token, makes_sockets) && is_filtered()) {
    note_net(token, makes_sockets);
    return Known::yes;
  }
  Known expected = Known::not_looked;
  known.compare_exchange_strong(expected, environment(net_variable) == no_net ? Known::absent : Known::undecided);
  return known.load(std::memory_order_acquire);
}

// While it lives the thread may be cancelled in the midst of a system call, as within libc's own.
class CancellationPoint {
 public:
  CancellationPoint() noexcept {
    if (real().pthread_setcanceltype != nullptr) real().pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before_);
  }
  ~CancellationPoint() {
    if (real().pthread_setcanceltype != nullptr) real().pthread_setcanceltype(before_, nullptr);
  }
  CancellationPoint(const CancellationPoint&) = delete;
  CancellationPoint& operator=(const CancellationPoint&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_DEFERRED;
};

template <class Result>
Result returned(long result) noexcept {
  if (result >= 0 || result < -4095) return static_cast<Result>(result);
  errno = static_cast<int>(-result);
  return -1;
}

template <class Result, class... Args>
Result waits(long number, Args... args) noexcept {
  long result;
  {
    const CancellationPoint here;
    result = passing::call(number, args...);
  }
  return returned<Result>(result);
}

}  // namespace

trap::Secret net_secret() noexcept {
  if (look() != Known::yes) return {};
  return {fifth.load(std::memory_order_relaxed), sixth.load(std::memory_order_relaxed)};
}

bool under_net() noexcept { return look() == Known::yes; }

bool net_is_decided() noexcept { return look() > Known::undecided; }

void note_no_net() noexcept { known.store(Known::absent, std::memory_order_release); }

bool net_makes_sockets() noexcept { return look() == Known::yes && births.load(std::memory_order_relaxed); }

void note_net(const wire::Token& token, bool makes_sockets) noexcept {
  const trap::Secret secret = trap::secret_of(token);
  fifth.store(secret.fifth, std::memory_order_relaxed);
  sixth.store(secret.sixth, std::memory_order_relaxed);
  births.store(makes_sockets, std::memory_order_relaxed);
  known.store(Known::yes, std::memory_order_release);
}

std::size_t net_text(std::span<char, most_net_text> out) noexcept {
  if (!net_is_decided()) return 0;
  std::size_t size = net_variable.size();
  std::memcpy(out.data(), net_variable.data(), size);
  out[size++] = '=';
  if (!under_net()) {
    std::memcpy(out.data() + size, no_net.data(), no_net.size() + 1);
    return size + no_net.size();
  }
  const trap::Secret secret = net_secret();
  std::uint8_t bytes[sizeof secret];
  std::memcpy(bytes, &secret, sizeof secret);
  for (const std::uint8_t byte : bytes) {
    out[size++] = digits[byte >> 4];
    out[size++] = digits[byte & 15];
  }
  if (births.load(std::memory_order_relaxed)) {
    std::memcpy(out.data() + size, births_mark.data(), births_mark.size());
    size += births_mark.size();
  }
  out[size] = '\0';
  return size;
}

int connect_directly(int fd, const sockaddr* address, socklen_t size) noexcept {
  return net_makes_sockets() ? real().connect(fd, address, size) : passing::connect(fd, address, size);
}

namespace passing {

int connect(int fd, const sockaddr* address, socklen_t size) noexcept {
  if (!under_net()) return real().connect(fd, address, size);
  return waits<int>(SYS_connect, fd, address, size);
}

int accept4(int listener, sockaddr* address, socklen_t* size, int flags) noexcept {
  if (!under_net()) return real().accept4(listener, address, size, flags);
  return waits<int>(SYS_accept4, listener, address, size, flags);
}

int getpeername(int fd, sockaddr* address, socklen_t* size) noexcept {
  if (!under_net()) return real().getpeername(fd, address, size);
  return returned<int>(call(SYS_getpeername, fd, address, size));
}

// Five arguments, and the sixth register is enough.
int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept {
  if (!under_net()) return real().getsockopt(fd, level, name, value, size);
  return returned<int>(getsockopt_quietly(fd, level, name, value, size));
}

int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  if (!under_net()) return real().epoll_ctl(epoll, operation, fd, event);
  return returned<int>(call(SYS_epoll_ctl, epoll, operation, fd, event));
}

// All six registers of sendto are taken.
ssize_t sendto(int fd, const void* from, size_t size, int flags, const sockaddr* to, socklen_t to_size) noexcept {
  if (to == nullptr || !under_net()) return real().sendto(fd, from, size, flags, to, to_size);
  iovec part{const_cast<void*>(from), size};
  msghdr message{};
  message.msg_name = const_cast<sockaddr*>(to);
  message.msg_namelen = to_size;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return waits<ssize_t>(SYS_sendmsg, fd, &message, flags);
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) noexcept {
  if (!under_net()) return real().sendmsg(fd, message, flags);
  return waits<ssize_t>(SYS_sendmsg, fd, message, flags);
}

int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept {
  if (!under_net()) return real().sendmmsg(fd, messages, count, flags);
  return waits<int>(SYS_sendmmsg, fd, messages, count, flags);
}

// So are recvfrom's.
ssize_t recvfrom(int fd, void* to, size_t size, int flags, sockaddr* from, socklen_t* from_size) noexcept {
  if (from == nullptr || !under_net() || !readable(from_size, sizeof *from_size))
    return real().recvfrom(fd, to, size, flags, from, from_size);
  iovec part{to, size};
  msghdr message{};
  message.msg_name = from;
  message.msg_namelen = *from_size;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const auto got = waits<ssize_t>(SYS_recvmsg, fd, &message, flags);
  if (got >= 0) *from_size = message.msg_namelen;
  return got;
}

ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept {
  if (!under_net()) return real().recvmsg(fd, message, flags);
  return waits<ssize_t>(SYS_recvmsg, fd, message, flags);
}

}  // namespace passing

}  // namespace towpath
