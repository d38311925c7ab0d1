#include "trap/filter.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

using namespace towpath;

namespace {

constexpr std::uint32_t allow = SECCOMP_RET_ALLOW;
constexpr std::uint32_t show = SECCOMP_RET_USER_NOTIF;
constexpr std::uint32_t refuse(int error) { return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error); }

#if defined(__x86_64__)
constexpr std::uint32_t own = AUDIT_ARCH_X86_64, foreign = AUDIT_ARCH_I386;
#else
constexpr std::uint32_t own = AUDIT_ARCH_AARCH64, foreign = AUDIT_ARCH_ARM;
#endif

// What the kernel's interpreter would say; classic BPF, as far as the filter uses it.
std::uint32_t run(std::span<const sock_filter> code, const seccomp_data& data) {
  std::uint32_t accumulator = 0;
  for (std::size_t at = 0; at < code.size(); ++at) {
    const sock_filter& each = code[at];
    switch (each.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        REQUIRE(each.k % 4 == 0);
        REQUIRE(each.k + 4 <= sizeof data);
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + each.k, sizeof accumulator);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K: at += accumulator == each.k ? each.jt : each.jf; break;
      case BPF_JMP | BPF_JSET | BPF_K: at += (accumulator & each.k) != 0 ? each.jt : each.jf; break;
      case BPF_JMP | BPF_JA: at += each.k; break;
      case BPF_RET | BPF_K: return each.k;
      default: FAIL("an instruction that the filter has no use for: " << each.code);
    }
  }
  FAIL("the filter has no end");
  return 0;
}

constexpr trap::Secret secret{0x1122334455667788, 0x99aabbccddeeff01};

struct Filter {
  explicit Filter(trap::Flavour flavour) : size(trap::build(code, flavour, secret)) { REQUIRE(size > 0); }
  std::uint32_t operator()(long number, std::array<std::uint64_t, 6> arguments = {}, std::uint32_t arch = own) const {
    seccomp_data data{};
    data.nr = static_cast<int>(number);
    data.arch = arch;
    std::copy(arguments.begin(), arguments.end(), data.args);
    return run({code, size}, data);
  }
  sock_filter code[trap::most_instructions];
  std::size_t size;
};

constexpr std::uint64_t somewhere = 0x7fff00000000;  // its lower half is zero

}  // namespace

TEST_CASE("every flavour shows the main job, and lets everything else pass") {
  for (std::uint32_t bits = 0; bits <= trap::Flavour::all_bits; ++bits) {
    const Filter filter(trap::Flavour::of(bits));
    CHECK(trap::Flavour::of(bits).bits() == bits);
    CHECK(filter(SYS_connect) == show);
    CHECK(filter(SYS_getpeername) == show);
    CHECK(filter(SYS_epoll_ctl, {3, EPOLL_CTL_DEL, 4}) == show);
    CHECK(filter(SYS_getsockopt, {3, SOL_SOCKET, SO_ERROR}) == show);
    CHECK(filter(SYS_getsockopt, {3, SOL_SOCKET, SO_TYPE}) == allow);
    CHECK(filter(SYS_getsockopt, {3, 6, SO_ERROR}) == allow);
    CHECK(filter(SYS_io_uring_setup) == refuse(ENOSYS));
    for (const long number : {SYS_read, SYS_write, SYS_openat, SYS_close, SYS_futex, SYS_execve, SYS_ioctl})
      CHECK(filter(number) == allow);
    // Not one instruction more than a jump can reach, with room to spare.
    CHECK(filter.size < trap::most_instructions);
  }
}

TEST_CASE("a send is shown for its address only") {
  const Filter filter(trap::Flavour{});
  CHECK(filter(SYS_sendto, {3, 1, 1, 0, 0, 0}) == allow);
  CHECK(filter(SYS_sendto, {3, 1, 1, 0, somewhere, 16}) == show);
  CHECK(filter(SYS_sendto, {3, 1, 1, 0, 0x1000, 16}) == show);
  CHECK(filter(SYS_sendto, {3, 1, 1, MSG_FASTOPEN, somewhere, 16}) == refuse(EOPNOTSUPP));
  CHECK(filter(SYS_sendmsg, {3, somewhere, MSG_NOSIGNAL}) == show);
  CHECK(filter(SYS_sendmmsg, {3, somewhere, 1, 0}) == show);
  CHECK(filter(SYS_sendmsg, {3, somewhere, MSG_FASTOPEN}) == refuse(EOPNOTSUPP));
  CHECK(filter(SYS_sendmmsg, {3, somewhere, 1, MSG_FASTOPEN}) == refuse(EOPNOTSUPP));
}

TEST_CASE("calls that bear the secret pass, and only those") {
  for (std::uint32_t bits = 0; bits <= trap::Flavour::all_bits; ++bits) {
    const Filter filter(trap::Flavour::of(bits));
    for (const long number :
         {SYS_connect, SYS_getpeername, SYS_epoll_ctl, SYS_sendmsg, SYS_sendmmsg, SYS_recvmsg, SYS_accept4}) {
      const std::uint32_t without = filter(number, {3, somewhere, 0});
      CHECK(filter(number, {3, somewhere, 0, 0, secret.fifth, secret.sixth}) == allow);
      for (int bit = 0; bit < 64; ++bit) {
        CHECK(filter(number, {3, somewhere, 0, 0, secret.fifth ^ std::uint64_t{1} << bit, secret.sixth}) == without);
        CHECK(filter(number, {3, somewhere, 0, 0, secret.fifth, secret.sixth ^ std::uint64_t{1} << bit}) == without);
      }
    }
    const std::array<std::uint64_t, 6> pending{3, SOL_SOCKET, SO_ERROR, somewhere, somewhere, secret.sixth};
    CHECK(filter(SYS_getsockopt, pending) == allow);
    CHECK(filter(SYS_getsockopt, {3, SOL_SOCKET, SO_ERROR, somewhere, secret.fifth, secret.sixth ^ 1}) == show);
    // The registers of these are taken: they have no way past.
    CHECK(filter(SYS_sendto, {3, 1, 1, 0, secret.fifth, secret.sixth}) == show);
    CHECK(filter(SYS_io_uring_setup, {3, 0, 0, 0, secret.fifth, secret.sixth}) == refuse(ENOSYS));
    CHECK(filter(SYS_sendmsg, {3, somewhere, MSG_FASTOPEN, 0, secret.fifth, secret.sixth}) == refuse(EOPNOTSUPP));
    if (trap::Flavour::of(bits).births)
      CHECK(filter(SYS_socket, {AF_INET, SOCK_STREAM, 0, 0, secret.fifth, secret.sixth}) == show);
  }
}

TEST_CASE("answers are looked at where a resolver compares their source") {
  CHECK(Filter(trap::Flavour{})(SYS_recvfrom, {3, 1, 1, 0, somewhere, somewhere}) == show);
  CHECK(Filter(trap::Flavour{})(SYS_recvfrom, {3, 1, 1, 0, 0, 0}) == allow);
  CHECK(Filter(trap::Flavour{})(SYS_recvmsg) == show);
  CHECK(Filter({.go = true})(SYS_recvfrom, {3, 1, 1, 0, somewhere, somewhere}) == allow);
  CHECK(Filter({.go = true})(SYS_recvmsg) == allow);
}

TEST_CASE("sockets are made by the agent only where they cannot be taken") {
  for (const bool births : {false, true}) {
    const Filter filter({.births = births});
    const std::uint32_t made = births ? show : allow;
    CHECK(filter(SYS_socket, {AF_INET, SOCK_STREAM, 0}) == made);
    CHECK(filter(SYS_socket, {AF_INET6, SOCK_DGRAM, 0}) == made);
    CHECK(filter(SYS_socket, {AF_UNIX, SOCK_STREAM, 0}) == allow);
    CHECK(filter(SYS_epoll_create1) == made);
    CHECK(filter(SYS_bind) == made);
    CHECK(filter(SYS_listen) == made);
  }
}

TEST_CASE("accept is shown where it is managed") {
  for (const bool inbound : {false, true}) {
    const Filter filter({.inbound = inbound});
    const std::uint32_t managed = inbound ? show : allow;
    CHECK(filter(SYS_accept4) == managed);
    CHECK(filter(SYS_getsockopt, {3, SOL_SOCKET, SO_PEERNAME}) == managed);
    CHECK(filter(SYS_getsockname) == allow);
  }
}

TEST_CASE("other system call tables lead nowhere") {
  const Filter filter(trap::Flavour{});
#if defined(__x86_64__)
  CHECK(filter(362, {}, foreign) == show);                    // connect
  CHECK(filter(102, {}, foreign) == show);                    // socketcall
  CHECK(filter(3, {}, foreign) == allow);                     // read
  CHECK(filter(SYS_connect | 0x40000000) == refuse(ENOSYS));  // x32
#endif
  CHECK(filter(SYS_connect, {}, 0x12345678) == refuse(ENOSYS));
}
