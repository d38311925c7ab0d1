#include "agent/socket_owner.h"

#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/unique_fd.h"

namespace towpath {

namespace {

struct Found {
  int error = 0;
  std::uint64_t cookie = 0;
};

void put(__be32 (&to)[4], const IpAddress& from) noexcept {
  const auto bytes = from.bytes();
  std::memcpy(to, bytes.data(), bytes.size());
}

Found ask_kernel(PeerKind kind, const Endpoint& peer, const Endpoint& ours) noexcept {
  struct {
    nlmsghdr head;
    inet_diag_req_v2 body;
  } request{};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.head.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = peer.address.is_v6() ? AF_INET6 : AF_INET;
  request.body.sdiag_protocol = kind == PeerKind::stream ? IPPROTO_TCP : IPPROTO_UDP;
  request.body.idiag_states = ~0u;
  inet_diag_sockid& id = request.body.id;
  // "src and dst are swapped for historical reasons" (net/ipv4/udp_diag.c).
  const Endpoint& from = kind == PeerKind::stream ? peer : ours;
  const Endpoint& to = kind == PeerKind::stream ? ours : peer;
  put(id.idiag_src, from.address);
  put(id.idiag_dst, to.address);
  id.idiag_sport = htons(from.port);
  id.idiag_dport = htons(to.port);
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;

  // A socket for each question: nothing of an earlier one can be left in it.
  const UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink) return {errno, 0};
  if (send(netlink.get(), &request, sizeof request, 0) != static_cast<ssize_t>(sizeof request)) return {errno, 0};
  alignas(nlmsghdr) char answer[1024];
  const ssize_t size = recv(netlink.get(), answer, sizeof answer, MSG_DONTWAIT);  // the kernel answers within send()
  if (size < 0) return {errno, 0};
  const auto* head = reinterpret_cast<const nlmsghdr*>(answer);
  if (!NLMSG_OK(head, static_cast<unsigned>(size))) return {EPROTO, 0};
  if (head->nlmsg_type == NLMSG_ERROR && head->nlmsg_len >= NLMSG_LENGTH(sizeof(nlmsgerr)))
    return {-static_cast<const nlmsgerr*>(NLMSG_DATA(head))->error, 0};
  if (head->nlmsg_type != SOCK_DIAG_BY_FAMILY || head->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg)))
    return {EPROTO, 0};
  const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(head));
  return {0, std::uint64_t{found->id.idiag_cookie[0]} | std::uint64_t{found->id.idiag_cookie[1]} << 32};
}

}  // namespace

std::uint64_t peer_cookie(PeerKind kind, const Endpoint& peer, const Endpoint& ours) noexcept {
  return ask_kernel(kind, peer, ours).cookie;
}

bool can_tell_peers() noexcept {
  // ENOENT is both "no such socket" and "no such handler": so look for one that exists.
  const UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe && (errno == EMFILE || errno == ENFILE)) return true;  // that says nothing about the kernel
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof own;
  auto* at = reinterpret_cast<sockaddr*>(&own);
  if (!probe || bind(probe.get(), at, size) != 0 || getsockname(probe.get(), at, &size) != 0) return false;
  return peer_cookie(PeerKind::datagram, Endpoint::from(at, size), {IpAddress::v4(INADDR_LOOPBACK), 1}) != 0;
}

}  // namespace towpath
