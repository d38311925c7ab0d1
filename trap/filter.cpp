#include "trap/filter.h"

#include <cerrno>
#include <cstddef>

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

namespace towpath::trap {

namespace {

constexpr std::uint32_t allow = SECCOMP_RET_ALLOW;
constexpr std::uint32_t show_always = SECCOMP_RET_USER_NOTIF;
// Marks of the jumps to the end, where the secret is looked for (Assembler::finish): no verdict of the kernel's.
constexpr std::uint32_t show = 1;       // in both registers
constexpr std::uint32_t show_five = 2;  // a call of five arguments: in the sixth
constexpr std::uint32_t refuse(int error) noexcept { return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error); }

// sendto, sendmsg, sendmmsg: the call and which of its arguments the flags are.
struct Sending {
  std::uint32_t call;
  unsigned flags;
};
constexpr std::uint32_t io_uring_setup_anywhere = 425;  // the same number on every architecture

#if defined(__x86_64__)
constexpr std::uint32_t own_architecture = AUDIT_ARCH_X86_64;
constexpr std::uint32_t foreign_architecture = AUDIT_ARCH_I386;
constexpr std::uint32_t foreign_calls[] = {102, 359, 362};  // socketcall, socket, connect
constexpr Sending foreign_sends[] = {{369, 3}, {370, 2}, {345, 3}};
#elif defined(__aarch64__)
constexpr std::uint32_t own_architecture = AUDIT_ARCH_AARCH64;
constexpr std::uint32_t foreign_architecture = AUDIT_ARCH_ARM;
constexpr std::uint32_t foreign_calls[] = {281, 283};  // socket, connect
constexpr Sending foreign_sends[] = {{290, 3}, {296, 2}, {374, 3}};
#else
#error "towpath knows the system calls of x86-64 and AArch64 only"
#endif

constexpr std::uint32_t argument(unsigned index, bool upper = false) noexcept {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + index * 8 + (upper ? 4 : 0));
}

// The call's number is in the accumulator between blocks: each block that matches ends with a verdict, so that only
// blocks that do not match, and load nothing, are ever left.
class Assembler {
 public:
  explicit Assembler(std::span<sock_filter, most_instructions> out) noexcept : out_(out) {}

  void load(std::uint32_t offset) noexcept { put(BPF_LD | BPF_W | BPF_ABS, offset); }
  void verdict(std::uint32_t value) noexcept {
    if (value == show || value == show_five) put(BPF_JMP | BPF_JA, value);
    else put(BPF_RET | BPF_K, value);
  }
  // The next instruction is for this call alone; end() closes what belongs to it.
  void begin(std::uint32_t call) noexcept {
    open_ = size_;
    put(BPF_JMP | BPF_JEQ | BPF_K, call);
  }
  void end() noexcept {
    if (open_ < out_.size()) out_[open_].jf = static_cast<std::uint8_t>(size_ - open_ - 1);
  }
  // `value` ends the call when the accumulator is (has any bit of) `what`.
  void when_equal(std::uint32_t what, std::uint32_t value) noexcept {
    put(BPF_JMP | BPF_JEQ | BPF_K, what, 0, 1);
    verdict(value);
  }
  void when_any(std::uint32_t bits, std::uint32_t value) noexcept {
    put(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    verdict(value);
  }
  void when_not(std::uint32_t what, std::uint32_t value) noexcept {
    put(BPF_JMP | BPF_JEQ | BPF_K, what, 1, 0);
    verdict(value);
  }
  void always(std::uint32_t call, std::uint32_t value) noexcept {
    begin(call);
    verdict(value);
    end();
  }
  // What was shown without condition ends here: with the secret it passes. The last thing; the number of instructions.
  [[nodiscard]] std::size_t finish(const Secret& secret) noexcept {
    const std::size_t both = size_;
    std::size_t differs[4];
    differs[0] = same(argument(4), static_cast<std::uint32_t>(secret.fifth));
    differs[1] = same(argument(4, true), static_cast<std::uint32_t>(secret.fifth >> 32));
    const std::size_t one = size_;
    differs[2] = same(argument(5), static_cast<std::uint32_t>(secret.sixth));
    differs[3] = same(argument(5, true), static_cast<std::uint32_t>(secret.sixth >> 32));
    verdict(allow);
    for (const std::size_t jump : differs) land(jump);
    verdict(show_always);
    if (size_ > out_.size()) return 0;
    for (std::size_t i = 0; i < both; ++i)
      if (out_[i].code == (BPF_JMP | BPF_JA))
        out_[i].k = static_cast<std::uint32_t>((out_[i].k == show ? both : one) - i - 1);
    return size_;
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_ <= out_.size() ? size_ : 0; }
  // A jump over what comes until land().
  [[nodiscard]] std::size_t unless_equal(std::uint32_t what) noexcept {
    put(BPF_JMP | BPF_JEQ | BPF_K, what);
    return size_ - 1;
  }
  void land(std::size_t jump) noexcept {
    if (jump < out_.size()) out_[jump].jf = static_cast<std::uint8_t>(size_ - jump - 1);
  }

 private:
  [[nodiscard]] std::size_t same(std::uint32_t offset, std::uint32_t what) noexcept {
    load(offset);
    return unless_equal(what);
  }
  void put(int code, std::uint32_t k, std::uint8_t jt = 0, std::uint8_t jf = 0) noexcept {
    if (size_ < out_.size()) out_[size_] = {static_cast<std::uint16_t>(code), jt, jf, k};
    ++size_;
  }

  std::span<sock_filter, most_instructions> out_;
  std::size_t size_ = 0, open_ = 0;
};

void when_pointer(Assembler& a, unsigned index, std::uint32_t value) noexcept {
  a.load(argument(index));
  a.when_not(0, value);
  a.load(argument(index, true));
  a.when_not(0, value);
}

void sending(Assembler& a) noexcept {
  a.begin(SYS_sendto);
  a.load(argument(3));
  a.when_any(MSG_FASTOPEN, refuse(EOPNOTSUPP));
  when_pointer(a, 4, show_always);
  a.verdict(allow);
  a.end();
  for (const auto& [call, flags] : {std::pair{SYS_sendmsg, 2u}, std::pair{SYS_sendmmsg, 3u}}) {
    a.begin(static_cast<std::uint32_t>(call));
    a.load(argument(flags));
    a.when_any(MSG_FASTOPEN, refuse(EOPNOTSUPP));
    a.verdict(show);
    a.end();
  }
}

void births(Assembler& a) noexcept {
  a.begin(SYS_socket);
  a.load(argument(0));
  a.when_equal(AF_INET, show_always);
  a.when_equal(AF_INET6, show_always);
  a.verdict(allow);
  a.end();
  a.always(SYS_bind, show_always);
  a.always(SYS_listen, show_always);
  a.always(SYS_epoll_create1, show_always);
#ifdef SYS_epoll_create
  a.always(SYS_epoll_create, show_always);
#endif
}

}  // namespace

std::size_t build(std::span<sock_filter, most_instructions> out, const Flavour& flavour,
                  const Secret& secret) noexcept {
  Assembler a(out);
  a.load(offsetof(seccomp_data, arch));
  const std::size_t native = a.unless_equal(foreign_architecture);
  a.load(offsetof(seccomp_data, nr));
  for (const std::uint32_t call : foreign_calls) a.when_equal(call, show_always);
  a.when_equal(io_uring_setup_anywhere, refuse(ENOSYS));
  for (const auto& [call, flags] : foreign_sends) {
    a.begin(call);
    a.load(argument(flags));
    a.when_any(MSG_FASTOPEN, refuse(EOPNOTSUPP));
    a.verdict(allow);
    a.end();
  }
  a.verdict(allow);
  a.land(native);
  a.when_not(own_architecture, refuse(ENOSYS));

  a.load(offsetof(seccomp_data, nr));
#if defined(__x86_64__)
  a.when_any(0x40000000u, refuse(ENOSYS));  // x32: the same numbers with this bit would pass by
#endif
  a.always(SYS_connect, show);
  a.always(SYS_epoll_ctl, show);
  a.always(SYS_getpeername, show);
  a.begin(SYS_getsockopt);
  a.load(argument(1));
  a.when_not(SOL_SOCKET, allow);
  a.load(argument(2));
  a.when_equal(SO_ERROR, show_five);
  if (flavour.inbound) a.when_equal(SO_PEERNAME, show_five);
  a.verdict(allow);
  a.end();
  sending(a);
  if (!flavour.go) {
    a.begin(SYS_recvfrom);
    when_pointer(a, 4, show_always);
    a.verdict(allow);
    a.end();
    a.always(SYS_recvmsg, show);
  }
  if (flavour.inbound) {
    a.always(SYS_accept4, show);
#ifdef SYS_accept
    a.always(SYS_accept, show);
#endif
  }
  if (flavour.births) births(a);
  a.always(SYS_io_uring_setup, refuse(ENOSYS));
  a.verdict(allow);
  return a.finish(secret);
}

std::size_t build_denial(std::span<sock_filter, most_instructions> out) noexcept {
  Assembler a(out);
  a.load(offsetof(seccomp_data, arch));
  a.when_not(own_architecture, refuse(ENOSYS));
  a.load(offsetof(seccomp_data, nr));
#if defined(__x86_64__)
  a.when_any(0x40000000u, refuse(ENOSYS));
#endif
  a.begin(SYS_socket);
  a.load(argument(0));
  a.when_equal(AF_INET, refuse(EACCES));
  a.when_equal(AF_INET6, refuse(EACCES));
  a.verdict(allow);
  a.end();
  a.always(SYS_io_uring_setup, refuse(ENOSYS));
  a.verdict(allow);
  return a.size();
}

}  // namespace towpath::trap
