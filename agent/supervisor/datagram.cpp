// Datagrams of supervised programs: questions to name servers are led to our own, and what must not leave is refused.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/supervisor/supervisor.h"

namespace towpath {

namespace {

constexpr std::uint16_t dns_port = 53;
constexpr std::size_t most_datagram = 65535;
constexpr std::size_t most_parts = 64;

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
  std::vector<iovec> parts;
  int flags = 0;
  std::uint64_t count_at = 0;  // sendmmsg: where the number of bytes belongs
};

void Supervisor::sendto(const Notice& notice) {
  sockaddr_storage address{};
  const std::size_t size = std::min<std::uint64_t>(notice.data.args[5] & 0xffffffff, sizeof address);
  if (size < sizeof(sa_family_t)) return notice.go_on();
  if (const int error = read_memory(notice.tid, notice.data.args[4], &address, size); error != 0)
    return error == EFAULT ? notice.fail(EFAULT)
                           : refuse(notice, "towpath may not read this program's memory",
                                    "give towpath CAP_SYS_PTRACE, or run both as the same user");
  Outgoing what;
  what.parts.push_back({reinterpret_cast<void*>(notice.data.args[1]), notice.data.args[2]});
  what.flags = notice.descriptor(3);
  send_to(notice, destination(address, size), what);
}

void Supervisor::sendmsg(const Notice& notice, bool many) {
  mmsghdr first{};
  if (read_memory(notice.tid, notice.data.args[1], &first, many ? sizeof first : sizeof first.msg_hdr) != 0)
    return notice.go_on();
  const msghdr& message = first.msg_hdr;
  sockaddr_storage address{};
  const std::size_t size = std::min<std::size_t>(message.msg_namelen, sizeof address);
  if (message.msg_name == nullptr || size < sizeof(sa_family_t)) return notice.go_on();
  if (read_memory(notice.tid, reinterpret_cast<std::uint64_t>(message.msg_name), &address, size) != 0)
    return notice.fail(EFAULT);
  Outgoing what;
  if (message.msg_iovlen > most_parts) return notice.fail(EMSGSIZE);
  what.parts.resize(message.msg_iovlen);
  if (!what.parts.empty() && read_memory(notice.tid, reinterpret_cast<std::uint64_t>(message.msg_iov),
                                         what.parts.data(), what.parts.size() * sizeof(iovec)) != 0)
    return notice.fail(EFAULT);
  what.flags = notice.descriptor(many ? 3 : 2);
  if (many) what.count_at = notice.data.args[1] + offsetof(mmsghdr, msg_len);
  send_to(notice, destination(address, size), what);
}

void Supervisor::send_to(const Notice& notice, const Endpoint& target, const Outgoing& what) {
  const bool question = target.port == dns_port;
  const Page& page = parts_.page.page();
  const bool synthetic = target.address && is_synthetic(page, target.address);
  const bool here = target.address.is_loopback() && !question;
  // With `udp: block` nothing goes on that bears an address: by then it could be another one.
  const bool blocked = page.udp_blocked != 0;
  if (!blocked && (!target.address || here || (!question && !synthetic))) return notice.go_on();
  Target socket;
  switch (look(notice, notice.descriptor(0), socket)) {
    case Look::inet: break;
    case Look::stranger: return target.address ? notice.fail(ENETUNREACH) : notice.go_on();
    default: return;
  }
  if (socket.type == SOCK_STREAM) return notice.go_on();  // connected: the kernel does not look at the address
  if (!socket.fd || !notice.valid()) return notice.fail(ENETUNREACH);
  if (!is_udp(socket.fd.get())) return synthetic ? notice.fail(ENETUNREACH) : notice.go_on();
  if (!target.address) return notice.fail(EAFNOSUPPORT);
  note_process(notice.tid);
  Endpoint to = target;
  if (!here) {
    wire::DatagramAsk ask{};
    ask.target = target;
    ask.cookie = socket.cookie;
    ask.domain = socket.domain;
    const wire::Reply reply = parts_.datagrams.judge(ask, socket.fd.get());
    if (reply.kind == wire::Answer::muted) return notice.fail(ENETUNREACH);
    if (reply.kind == wire::Answer::instead) to = reply.endpoint;
    else if (reply.kind != wire::Answer::direct) return notice.fail(reply.number != 0 ? reply.number : ENETUNREACH);
    else if (!blocked) return notice.go_on();
  }

  std::vector<std::byte> bytes;
  for (const iovec& part : what.parts) {
    if (part.iov_len > most_datagram - bytes.size()) return notice.fail(EMSGSIZE);
    const std::size_t at = bytes.size();
    bytes.resize(at + part.iov_len);
    if (part.iov_len != 0 &&
        read_memory(notice.tid, reinterpret_cast<std::uint64_t>(part.iov_base), bytes.data() + at, part.iov_len) != 0)
      return notice.fail(EFAULT);
  }
  sockaddr_storage address;
  const socklen_t size = to.to(address, socket.domain);
  if (size == 0 || !notice.valid()) return notice.fail(ENETUNREACH);
  const ssize_t sent = ::sendto(socket.fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                                reinterpret_cast<sockaddr*>(&address), size);
  if (sent < 0) return notice.fail(errno);
  if (what.count_at == 0) return notice.result(sent);
  // Of many messages the first was sent; the program goes on with the rest.
  const auto count = static_cast<unsigned>(sent);
  if (write_memory(notice.tid, what.count_at, &count, sizeof count) != 0) return notice.fail(EFAULT);
  notice.result(1);
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
