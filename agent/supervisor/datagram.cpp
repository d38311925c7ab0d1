// Datagrams of supervised programs: questions to name servers are led to our own, and what must not leave is refused.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "agent/supervisor/supervisor.h"

namespace towpath {

namespace {

constexpr std::uint16_t dns_port = 53;
constexpr std::size_t most_datagram = 65535;
constexpr std::size_t most_parts = 64;
constexpr std::size_t most_sent_parts = 1024;  // UIO_MAXIOV
constexpr int goes_on = -1;                    // no error number: the kernel is to do the call itself

bool is_udp(int fd) noexcept {
  int protocol = 0;
  socklen_t size = sizeof protocol;
  return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
         (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE);
}

// To an IPv4 datagram socket an address of no family is one of IPv4 (net/ipv4/udp.c).
Endpoint destination(sockaddr_storage& address, std::size_t size) noexcept {
  if (address.ss_family == AF_UNSPEC) address.ss_family = AF_INET;
  return Endpoint::from(reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(size));
}

}  // namespace

// What a call wants to send, as it stands in the program's memory.
struct Outgoing {
  Endpoint target;  // none: no address, or one of another family
  bool addressed = false;
  int error = 0;  // what the kernel would say of its address
  std::vector<iovec> parts;
  std::vector<std::byte> control;
};

namespace {

// What of the flags concerns a datagram that we send in the program's place.
constexpr int passed_flags = MSG_MORE | MSG_CONFIRM | MSG_OOB;

std::uint64_t at(const void* pointer) noexcept { return reinterpret_cast<std::uint64_t>(pointer); }

// Where a message is to go: read once, so that what is judged is what is sent.
Outgoing read_address(pid_t tid, const msghdr& head) {
  Outgoing out;
  sockaddr_storage address{};
  const std::size_t size = std::min<std::size_t>(head.msg_namelen, sizeof address);
  out.addressed = head.msg_name != nullptr && size >= sizeof(sa_family_t);
  if (!out.addressed) return out;
  if (read_memory(tid, at(head.msg_name), &address, size) != 0) out.error = EFAULT;
  else out.target = destination(address, size);
  return out;
}

// The rest of it, where it is ours to send. An error is the kernel's own for it.
int read_rest(pid_t tid, const msghdr& head, Outgoing& out) {
  constexpr std::size_t most_control = 20480;  // net.core.optmem_max as it ever was
  if (head.msg_iovlen > most_sent_parts) return EMSGSIZE;
  out.parts.resize(head.msg_iovlen);
  if (!out.parts.empty() && read_memory(tid, at(head.msg_iov), out.parts.data(), out.parts.size() * sizeof(iovec)) != 0)
    return EFAULT;
  if (head.msg_control == nullptr || head.msg_controllen == 0) return 0;
  if (head.msg_controllen > most_control) return ENOBUFS;
  out.control.resize(head.msg_controllen);
  return read_memory(tid, at(head.msg_control), out.control.data(), out.control.size()) != 0 ? EFAULT : 0;
}

// May we say that in the program's place? What the kernel allows to this process (a mark, an extension header) it may
// not allow to that one.
bool may_pass(const cmsghdr& control) noexcept {
  const int type = control.cmsg_type;
  switch (control.cmsg_level) {
    case IPPROTO_IP: return type == IP_PKTINFO || type == IP_TOS || type == IP_TTL;
    case IPPROTO_IPV6:
      return type == IPV6_PKTINFO || type == IPV6_TCLASS || type == IPV6_HOPLIMIT || type == IPV6_DONTFRAG;
    case SOL_UDP: return type == UDP_SEGMENT;
    case SOL_SOCKET: return type == SCM_TXTIME || type == SO_TIMESTAMPING;
    default: return false;
  }
}

bool may_pass(msghdr& message) noexcept {
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each))
    if (!may_pass(*each)) return false;
  return true;
}

// Would the kernel cut the bytes up into several datagrams?
bool is_segmented(msghdr& message) noexcept {
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each))
    if (each->cmsg_level == SOL_UDP && each->cmsg_type == UDP_SEGMENT) return true;
  return false;
}

// All parts at once: a message may have a thousand.
int copy_bytes(pid_t tid, const std::vector<iovec>& parts, std::vector<std::byte>& out) {
  std::size_t size = 0;
  for (const iovec& part : parts) {
    if (part.iov_len > most_datagram - size) return EMSGSIZE;
    size += part.iov_len;
  }
  out.resize(size);
  const iovec ours{out.data(), out.size()};
  if (size == 0) return 0;
  const ssize_t got = process_vm_readv(tid, &ours, 1, parts.data(), parts.size(), 0);
  return got == static_cast<ssize_t>(size) ? 0 : EFAULT;
}

}  // namespace

// Anything of ours in a message for there? With `udp: block` nothing goes on that bears an address: by then it could be
// another one.
bool Supervisor::concerns(const Outgoing& what) const {
  if (!what.addressed) return false;
  const Page& page = parts_.page.page();
  if (page.udp_blocked != 0) return true;
  return what.target.address && (what.target.port == dns_port || is_synthetic(page, what.target.address));
}

void Supervisor::sendto(const Notice& notice) {
  sockaddr_storage address{};
  const std::size_t size = std::min<std::uint64_t>(notice.data.args[5] & 0xffffffff, sizeof address);
  if (size < sizeof(sa_family_t)) return notice.go_on();
  if (const int error = read_memory(notice.tid, notice.data.args[4], &address, size); error != 0)
    return error == EFAULT ? notice.fail(EFAULT)
                           : refuse(notice, "towpath may not read this program's memory",
                                    "give towpath CAP_SYS_PTRACE, or run both as the same user");
  Outgoing what;
  what.target = destination(address, size);
  what.addressed = true;
  if (!concerns(what)) return notice.go_on();
  Target socket;
  if (!may_judge(notice, what, socket)) return;
  what.parts.push_back({reinterpret_cast<void*>(notice.data.args[1]), notice.data.args[2]});
  std::size_t sent = 0;
  const int error = send_one(notice, socket, what, notice.descriptor(3), sent);
  if (error == 0) return notice.result(static_cast<std::int64_t>(sent));
  error == goes_on ? notice.go_on() : notice.fail(error);
}

// Most messages that are shown here bear no address (connected sockets) or one that is no business of ours (UNIX domain
// sockets, whatever they pass along): these cost one look at the header and go on.
void Supervisor::sendmsg(const Notice& notice) {
  msghdr head{};
  if (read_memory(notice.tid, notice.data.args[1], &head, sizeof head) != 0) return notice.go_on();
  Outgoing what = read_address(notice.tid, head);
  if (what.error != 0) return notice.fail(what.error);
  if (!concerns(what)) return notice.go_on();
  Target socket;
  if (!may_judge(notice, what, socket)) return;
  int error = read_rest(notice.tid, head, what);
  std::size_t sent = 0;
  if (error == 0) error = send_one(notice, socket, what, notice.descriptor(2), sent);
  if (error == 0) return notice.result(static_cast<std::int64_t>(sent));
  error == goes_on ? notice.go_on() : notice.fail(error);
}

// With one message among them that is ours to look at, all are sent here, in their order: were the others let go on, it
// would go with them.
void Supervisor::sendmmsg(const Notice& notice) {
  constexpr std::size_t most_messages = 1024;  // UIO_MAXIOV; the kernel takes no more at once
  const std::size_t count = std::min<std::uint64_t>(notice.data.args[2] & 0xffffffff, most_messages);
  constexpr std::size_t most_at_once = 64;  // the program comes again with the rest
  std::vector<mmsghdr> heads(count);
  const iovec ours{heads.data(), count * sizeof(mmsghdr)};
  const iovec theirs{reinterpret_cast<void*>(notice.data.args[1]), count * sizeof(mmsghdr)};
  // An array that ends in no man's land is read as far as it is there.
  const ssize_t legible = count == 0 ? 0 : process_vm_readv(notice.tid, &ours, 1, &theirs, 1, 0);
  heads.resize(legible < 0 ? 0 : static_cast<std::size_t>(legible) / sizeof(mmsghdr));
  std::vector<Outgoing> all;
  for (const mmsghdr& each : heads) all.push_back(read_address(notice.tid, each.msg_hdr));
  const auto first = std::find_if(all.begin(), all.end(), [&](const Outgoing& each) { return concerns(each); });
  if (first == all.end()) return notice.go_on();
  Target socket;
  if (!may_judge(notice, *first, socket)) return;
  std::size_t done = 0;
  int error = 0;
  for (; done < all.size() && done < most_at_once; ++done) {
    std::size_t sent = 0;
    Outgoing& what = all[done];
    error = what.error;
    if (error == 0) error = read_rest(notice.tid, heads[done].msg_hdr, what);
    if (error == 0) error = send_one(notice, socket, what, notice.descriptor(3), sent);
    if (error == goes_on) error = send_as_is(notice, socket, what, notice.descriptor(3), sent);
    if (error != 0) break;
    const auto length = static_cast<unsigned>(sent);
    error = write_memory(notice.tid, notice.data.args[1] + done * sizeof(mmsghdr) + offsetof(mmsghdr, msg_len), &length,
                         sizeof length);
    if (error != 0) break;
  }
  // As in the kernel: what failed is told by the next call, where anything went before it.
  if (done != 0) return notice.result(static_cast<std::int64_t>(done));
  notice.fail(error);
}

// Is this a socket whose datagrams are ours to judge? False: the call has been answered.
bool Supervisor::may_judge(const Notice& notice, const Outgoing& what, Target& socket) {
  switch (look(notice, notice.descriptor(0), socket)) {
    case Look::inet: break;
    case Look::stranger: what.target.address ? notice.fail(ENETUNREACH) : notice.go_on(); return false;
    default: return false;
  }
  if (socket.type == SOCK_STREAM) {  // connected: the kernel does not look at the address
    notice.go_on();
    return false;
  }
  if (!socket.fd || !notice.valid()) {
    notice.fail(ENETUNREACH);
    return false;
  }
  if (!is_udp(socket.fd.get())) {
    const Page& page = parts_.page.page();
    what.target.address&& is_synthetic(page, what.target.address) ? notice.fail(ENETUNREACH) : notice.go_on();
    return false;
  }
  note_process(notice.tid);
  return true;
}

int Supervisor::send_one(const Notice& notice, const Target& socket, Outgoing& what, int flags, std::size_t& sent) {
  const bool blocked = parts_.page.page().udp_blocked != 0;
  if (!what.addressed) return goes_on;
  if (!concerns(what)) return goes_on;
  if (!what.target.address) return EAFNOSUPPORT;
  if (!what.target.address.is_loopback() || what.target.port == dns_port) {
    wire::DatagramAsk ask{};
    ask.target = what.target;
    ask.cookie = socket.cookie;
    ask.domain = socket.domain;
    const wire::Reply reply = parts_.datagrams.judge(ask, socket.fd.get());
    switch (reply.kind) {
      case wire::Answer::instead: return send_led(notice, socket, what, reply.endpoint, flags, sent);
      case wire::Answer::direct: break;
      case wire::Answer::muted: return ENETUNREACH;
      default: return reply.number != 0 ? reply.number : ENETUNREACH;
    }
  }
  return blocked ? send_as_is(notice, socket, what, flags, sent) : goes_on;
}

// To the name service. What its control data say is how a packet is to leave this host (the interface, its address, its
// marks), which this one does not do.
int Supervisor::send_led(const Notice& notice, const Target& socket, Outgoing& what, const Endpoint& door, int flags,
                         std::size_t& sent) {
  msghdr control{};
  control.msg_control = what.control.data();
  control.msg_controllen = what.control.size();
  if (is_segmented(control)) return EINVAL;
  what.control.clear();
  what.target = door;
  return send_as_is(notice, socket, what, flags, sent);
}

int Supervisor::send_as_is(const Notice& notice, const Target& socket, Outgoing& what, int flags, std::size_t& sent) {
  std::vector<std::byte> bytes;
  if (const int error = copy_bytes(notice.tid, what.parts, bytes); error != 0) return error;
  sockaddr_storage address;
  iovec whole{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &whole;
  message.msg_iovlen = 1;
  message.msg_control = what.control.empty() ? nullptr : what.control.data();
  message.msg_controllen = what.control.size();
  if (!may_pass(message)) return EPERM;
  if (what.addressed) {
    message.msg_name = &address;
    message.msg_namelen = what.target.to(address, socket.domain);
    if (message.msg_namelen == 0) return what.target.address ? ENETUNREACH : EAFNOSUPPORT;
  }
  if (!notice.valid()) return ENETUNREACH;
  const ssize_t went = ::sendmsg(socket.fd.get(), &message, (flags & passed_flags) | MSG_DONTWAIT | MSG_NOSIGNAL);
  if (went < 0) return errno;
  sent = static_cast<std::size_t>(went);
  return 0;
}

void Supervisor::receive(const Notice& notice, bool message) {
  if (parts_.page.page().dns_doors.load() == 0) return notice.go_on();
  Target socket;
  if (!inspect(notice, notice.descriptor(0), socket) || socket.type != SOCK_DGRAM || !socket.fd) return notice.go_on();
  const PageEntry* entry = find_socket(parts_.page.page(), socket.cookie);
  if (entry == nullptr || entry->state.load() != SocketState::dns) return notice.go_on();
  Incoming where;
  const int flags = notice.descriptor(message ? 2 : 3);
  if (message) {
    const std::uint64_t at = notice.data.args[1];
    msghdr head{};
    if (read_memory(notice.tid, at, &head, sizeof head) != 0) return notice.fail(EFAULT);
    if (head.msg_name == nullptr || head.msg_iovlen > most_parts) return notice.go_on();
    where.parts.resize(head.msg_iovlen);
    if (!where.parts.empty() && read_memory(notice.tid, reinterpret_cast<std::uint64_t>(head.msg_iov),
                                            where.parts.data(), where.parts.size() * sizeof(iovec)) != 0)
      return notice.fail(EFAULT);
    where.address = reinterpret_cast<std::uint64_t>(head.msg_name);
    where.address_size = at + offsetof(msghdr, msg_namelen);
    where.message_flags = at + offsetof(msghdr, msg_flags);
    where.control_size = at + offsetof(msghdr, msg_controllen);
    where.room = head.msg_namelen;
  } else {
    where.parts.push_back({reinterpret_cast<void*>(notice.data.args[1]), notice.data.args[2]});
    where.address = notice.data.args[4];
    where.address_size = notice.data.args[5];
    if (read_memory(notice.tid, where.address_size, &where.room, sizeof where.room) != 0) return notice.fail(EFAULT);
  }
  const bool wait = (flags & MSG_DONTWAIT) == 0 && (fcntl(socket.fd.get(), F_GETFL) & O_NONBLOCK) == 0;
  timeval patience{};
  socklen_t size = sizeof patience;
  ::getsockopt(socket.fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, &size);
  auto call = std::make_unique<HeldReceive>(*this, parts_.sockets, parts_.page, notice, std::move(socket.fd), flags,
                                            std::move(where));
  if (call->try_now(wait)) return;
  if (!call->start(parts_.loop, patience)) return notice.fail(ENOBUFS);
  HeldReceive* const key = call.get();
  receiving_.emplace(key, std::move(call));
  watch_time();
}

}  // namespace towpath
