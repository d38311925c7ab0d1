// Which TCP or UDP sockets this network namespace has, by the kernel's identity (SO_COOKIE): one sock_diag dump, which
// needs no privilege (tests/platform/sock_diag.c).
#pragma once

#include <cstdint>
#include <unordered_set>

namespace towpath {

class OpenSockets {
 public:
  enum class Kind : std::uint8_t { stream, datagram };
  [[nodiscard]] static OpenSockets list(Kind kind = Kind::stream);
  // False: the kernel did not tell all; nothing may be concluded from a socket that is missing.
  [[nodiscard]] bool complete() const noexcept { return complete_; }
  [[nodiscard]] bool has(std::uint64_t cookie) const { return cookies_.contains(cookie); }
  [[nodiscard]] std::size_t size() const noexcept { return cookies_.size(); }

 private:
  bool list_family(int netlink, Kind kind, std::uint8_t family);

  std::unordered_set<std::uint64_t> cookies_;
  bool complete_ = false;
};

}  // namespace towpath
