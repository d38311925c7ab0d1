// What belongs to this host: its name and the addresses of its interfaces, which a proxy cannot reach in its place.
//
// The kernel says when addresses come and go (rtnetlink). What it has said by the time of a question counts, also where
// the loop has not heard it yet. Where netlink is refused (systemd's RestrictAddressFamilies, some sandboxes),
// addresses are read again when they are asked for, at most once a second.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "agent/uv.h"
#include "base/endpoint.h"
#include "base/unique_fd.h"

namespace towpath {

// Normalised; "" when it is no name that could be asked for.
[[nodiscard]] std::string own_host_name();

// Of all interfaces of this network namespace, sorted, without loopback and fe80::/10, which are direct anyway.
[[nodiscard]] std::vector<IpAddress> own_addresses();

class ThisHost {
 public:
  using Changed = std::function<void()>;  // a verdict about an address may be wrong now

  ThisHost(uv_loop_t* loop, Changed changed);

  [[nodiscard]] std::string name() const { return own_host_name(); }
  // Valid until the next call.
  [[nodiscard]] std::span<const IpAddress> addresses();

 private:
  bool watch();
  // Anything from the kernel since the last time?
  [[nodiscard]] bool heard() noexcept;
  void refresh();

  uv_loop_t* loop_;
  Changed changed_;
  std::vector<IpAddress> addresses_;
  std::uint64_t read_ms_ = 0;
  UniqueFd news_;
  UvPoll poll_;  // closed before the descriptor
};

}  // namespace towpath
