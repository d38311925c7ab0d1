#include "agent/open_sockets.h"

#include <cstring>
#include <vector>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/unique_fd.h"

namespace towpath {

namespace {

std::uint64_t cookie_of(const inet_diag_msg& socket) noexcept {
  return std::uint64_t{socket.id.idiag_cookie[0]} | std::uint64_t{socket.id.idiag_cookie[1]} << 32;
}

Endpoint end_of(std::uint8_t family, const __be32 (&address)[4], __be16 port) noexcept {
  std::uint8_t bytes[16];
  std::memcpy(bytes, address, sizeof bytes);
  return {family == AF_INET ? IpAddress::v4(ntohl(address[0])) : IpAddress::v6(bytes), ntohs(port)};
}

}  // namespace

template <class See>
bool OpenSockets::each(int netlink, Kind kind, std::uint8_t family, See see) {
  struct {
    nlmsghdr head;
    inet_diag_req_v2 body;
  } request{};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = kind == Kind::stream ? IPPROTO_TCP : IPPROTO_UDP;
  request.body.idiag_states = ~0u;
  if (send(netlink, &request, sizeof request, 0) != static_cast<ssize_t>(sizeof request)) return false;
  std::vector<char> buffer(64 * 1024);
  for (;;) {
    const ssize_t size = recv(netlink, buffer.data(), buffer.size(), 0);
    if (size <= 0) return false;
    auto left = static_cast<unsigned>(size);
    for (auto* head = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
      if (head->nlmsg_type == NLMSG_DONE) return true;
      if (head->nlmsg_type == NLMSG_ERROR || head->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return false;
      see(*static_cast<const inet_diag_msg*>(NLMSG_DATA(head)));
    }
  }
}

OpenSockets OpenSockets::list(Kind kind) {
  OpenSockets out;
  const UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  const auto note = [&](const inet_diag_msg& socket) {
    out.cookies_.emplace(cookie_of(socket), socket.idiag_inode != 0);
  };
  out.complete_ = netlink && each(netlink.get(), kind, AF_INET, note) && each(netlink.get(), kind, AF_INET6, note);
  return out;
}

OpenSockets::Identity OpenSockets::find_stream(std::uint64_t inode) {
  Identity out;
  const UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  const auto look = [&](const inet_diag_msg& socket) {
    if (socket.idiag_inode == inode) out = {cookie_of(socket), socket.idiag_family};
  };
  if (netlink && each(netlink.get(), Kind::stream, AF_INET, look)) each(netlink.get(), Kind::stream, AF_INET6, look);
  return out;
}

std::vector<Endpoint> OpenSockets::connecting_to(const Endpoint& there) {
  std::vector<Endpoint> out;
  const UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  const auto look = [&](const inet_diag_msg& socket) {
    if (socket.idiag_state == TCP_SYN_SENT &&
        end_of(socket.idiag_family, socket.id.idiag_dst, socket.id.idiag_dport) == there)
      out.push_back(end_of(socket.idiag_family, socket.id.idiag_src, socket.id.idiag_sport));
  };
  if (netlink && each(netlink.get(), Kind::stream, AF_INET, look)) each(netlink.get(), Kind::stream, AF_INET6, look);
  return out;
}

}  // namespace towpath
