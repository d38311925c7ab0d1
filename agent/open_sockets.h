// Which TCP or UDP sockets this network namespace has, by the kernel's identity (SO_COOKIE): one sock_diag dump, which
// needs no privilege (tests/platform/sock_diag.c).
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/endpoint.h"

namespace towpath {

class OpenSockets {
 public:
  enum class Kind : std::uint8_t { stream, datagram };
  [[nodiscard]] static OpenSockets list(Kind kind = Kind::stream);
  // False: the kernel did not tell all; nothing may be concluded from a socket that is missing.
  [[nodiscard]] bool complete() const noexcept { return complete_; }
  [[nodiscard]] bool has(std::uint64_t cookie) const { return cookies_.contains(cookie); }
  // Has some process a descriptor of it? A closed socket that the kernel still drains, or keeps in TIME_WAIT, has none.
  [[nodiscard]] bool held(std::uint64_t cookie) const {
    const auto at = cookies_.find(cookie);
    return at != cookies_.end() && at->second;
  }
  struct Identity {
    std::uint64_t cookie = 0;  // 0: no such socket
    int domain = 0;
  };
  // The TCP socket with that inode (which /proc/PID/fd tells). A whole dump: not for every call.
  [[nodiscard]] static Identity find_stream(std::uint64_t inode);
  // The own ends of sockets that are still connecting to that address.
  [[nodiscard]] static std::vector<Endpoint> connecting_to(const Endpoint& there);

  [[nodiscard]] std::size_t size() const noexcept { return cookies_.size(); }

 private:
  template <class See>
  static bool each(int netlink, Kind kind, std::uint8_t family, See see);

  std::unordered_map<std::uint64_t, bool> cookies_;  // held
  bool complete_ = false;
};

}  // namespace towpath
