#include "agent/datagrams.h"

#include <cerrno>
#include <string_view>

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "config/decide.h"

namespace towpath {

namespace {

wire::Reply reply_of(wire::Answer kind, int number = 0) {
  wire::Reply out;
  out.kind = kind;
  out.number = number;
  return out;
}

bool is_v6_only(int fd, int domain) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return domain == AF_INET6 && getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &size) == 0 && value != 0;
}

}  // namespace

bool bound_to_device(int fd) noexcept {
  char device[IF_NAMESIZE] = {};
  socklen_t size = sizeof device;
  if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &size) != 0 || size == 0) return false;
  const std::string_view name(device);
  return !name.empty() && name != "lo";
}

bool Datagrams::silenced(const Endpoint& target) {
  if (names_.is_synthetic(target.address)) return true;
  if (policy_->udp == UdpMode::allow || !policy_->any_proxy()) return false;
  const std::string name = names_.name_of(target.address);
  const Surroundings around{{}, host_.addresses(), host_.name()};
  return decide(any_port_.of(policy_), {name, target.address, target.port}, around).kind != RouteKind::direct;
}

wire::Reply Datagrams::lead(const wire::DatagramAsk& ask, int fd) {
  char text[Endpoint::text_size];
  if (bound_to_device(fd)) {
    LogLine(log_, Level::error, "dns_refused")
        .add("target", ask.target.format(text))
        .add("reason", "the socket is bound to a network device and cannot be led to towpath's name service");
    return reply_of(wire::Answer::refuse, ENETUNREACH);
  }
  wire::Reply out = reply_of(wire::Answer::instead);
  out.endpoint = stub_.datagram_door(ask.target, ask.domain, is_v6_only(fd, ask.domain));
  if (!out.endpoint.address) return reply_of(wire::Answer::refuse, ENETUNREACH);
  if (!page_.note(ask.cookie, SocketState::dns, ask.target)) return reply_of(wire::Answer::refuse, ENOBUFS);
  return out;
}

wire::Reply Datagrams::judge(const wire::DatagramAsk& ask, int fd) {
  if (stub_.leads(ask.target)) return lead(ask, fd);
  if (silenced(ask.target)) {
    if (ask.connects && !page_.note(ask.cookie, SocketState::muted, ask.target))
      return reply_of(wire::Answer::refuse, ENETUNREACH);
    return reply_of(wire::Answer::muted);
  }
  // Connected somewhere else than before.
  if (ask.connects) page_.forget(ask.cookie);
  return reply_of(wire::Answer::direct);
}

}  // namespace towpath
