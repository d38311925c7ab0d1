#include "agent/this_host.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/host_name.h"

namespace towpath {

namespace {

constexpr std::uint64_t reread_ms = 1000;

bool less(const IpAddress& a, const IpAddress& b) noexcept {
  if (a.is_v4() != b.is_v4()) return a.is_v4();
  return std::lexicographical_compare(a.bytes().begin(), a.bytes().end(), b.bytes().begin(), b.bytes().end());
}

void add(std::vector<IpAddress>& to, const sockaddr* address) {
  if (address == nullptr) return;
  const socklen_t size = address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  const IpAddress found = Endpoint::from(address, size).address.without_scope();
  if (found && !found.is_loopback() && !found.is_link_local() && !found.is_unspecified()) to.push_back(found);
}

bool read_by_netlink(std::vector<IpAddress>& out) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return false;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) add(out, each->ifa_addr);
  freeifaddrs(list);
  return true;
}

// netdevice(7)
void read_ipv4_by_ioctl(std::vector<IpAddress>& out) {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return;
  std::vector<ifreq> rows(64);
  constexpr std::size_t most_rows = 65536;
  for (;;) {
    ifconf table{};
    table.ifc_len = static_cast<int>(rows.size() * sizeof(ifreq));
    table.ifc_req = rows.data();
    if (ioctl(fd.get(), SIOCGIFCONF, &table) != 0) return;
    const std::size_t count = static_cast<std::size_t>(table.ifc_len) / sizeof(ifreq);
    // A full table may be a cut one.
    if (count == rows.size() && count < most_rows) {
      rows.resize(rows.size() * 2);
      continue;
    }
    for (std::size_t i = 0; i < count; ++i) add(out, &rows[i].ifr_addr);
    return;
  }
}

// Lines of 32 hexadecimal digits and more.
void read_ipv6_from_proc(std::vector<IpAddress>& out) {
  std::ifstream table("/proc/self/net/if_inet6");
  for (std::string line; std::getline(table, line);) {
    constexpr std::size_t digits = 32;
    if (line.size() < digits) continue;
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    for (std::size_t i = 0; i < digits / 2; ++i) {
      const char pair[] = {line[2 * i], line[2 * i + 1], '\0'};
      address.sin6_addr.s6_addr[i] = static_cast<std::uint8_t>(std::strtoul(pair, nullptr, 16));
    }
    add(out, reinterpret_cast<const sockaddr*>(&address));
  }
}

}  // namespace

std::string own_host_name() {
  char text[256] = {};
  return gethostname(text, sizeof text - 1) == 0 ? normalise_name(text) : std::string();
}

std::vector<IpAddress> own_addresses() {
  std::vector<IpAddress> out;
  if (!read_by_netlink(out)) {
    read_ipv4_by_ioctl(out);
    read_ipv6_from_proc(out);
  }
  std::sort(out.begin(), out.end(), less);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

ThisHost::ThisHost(uv_loop_t* loop, Changed changed) : loop_(loop), changed_(std::move(changed)) {
  if (!watch()) {
    poll_.reset();
    news_.reset();
  }
  addresses_ = own_addresses();  // after the watch: what changes from here on is heard of
  read_ms_ = uv_now(loop_);
}

bool ThisHost::watch() {
  news_.reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl groups{};
  groups.nl_family = AF_NETLINK;
  groups.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (!news_ || bind(news_.get(), reinterpret_cast<const sockaddr*>(&groups), sizeof groups) != 0) return false;
  if (!poll_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(loop_, handle, news_.get()); })) return false;
  uv_poll_start(poll_.get(), UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto& self = *static_cast<ThisHost*>(handle->data);
    if (self.heard()) self.refresh();
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(poll_.get()));
  return true;
}

bool ThisHost::heard() noexcept {
  char message[8192];
  bool any = false;
  // What the messages say is not looked at: some may have been dropped (ENOBUFS), and the whole list is short.
  constexpr int most_messages = 256;
  for (int i = 0; i < most_messages; ++i) {
    const ssize_t size = recv(news_.get(), message, sizeof message, MSG_DONTWAIT);
    if (size < 0 && errno != ENOBUFS && errno != EINTR) break;
    any = true;
  }
  return any;
}

void ThisHost::refresh() {
  read_ms_ = uv_now(loop_);
  std::vector<IpAddress> now = own_addresses();
  if (now == addresses_) return;
  addresses_ = std::move(now);
  changed_();
}

std::span<const IpAddress> ThisHost::addresses() {
  if (news_ ? heard() : uv_now(loop_) - read_ms_ >= reread_ms) refresh();
  return addresses_;
}

}  // namespace towpath
