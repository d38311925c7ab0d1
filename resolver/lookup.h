// Name -> addresses for the agent itself: hosts file, then DNS (A and AAAA) through c-ares. No NSS.
// For proxies' own names and for targets that are reached directly.
//
// - A number as name is its own answer. `localhost` and names below it are loopback (RFC 6761 6.3), unless
//   the hosts file says otherwise.
// - Callbacks come from the loop, never from inside resolve(); they may call anything here, close() and the destructor
//   included, and must not throw.
// - One overall deadline per lookup. When A is answered, AAAA gets 300 ms more.
// - resolv.conf is looked at before each lookup; when it changed, new questions go to the new servers
//   and the cache is dropped, questions in flight stay with the old ones. A file without name servers (one that is just
//   being rewritten) does not replace one that had some. None at all: 127.0.0.1, as in libc.
// - Equal lookups at the same time share one question; answers are kept for their TTL, at most 30 s.
// - Link-local name servers (fe80::1%eth0) are not reached: c-ares 1.18 knows no scope.
//
// Ownership: the loop must run after close() (or the destructor) until the handles are closed; then it drains.
// An abandoned question can keep the loop alive for up to three quarters of `total`.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <uv.h>

#include "base/endpoint.h"
#include "resolver/lookup_error.h"
#include "resolver/resolv_conf.h"

namespace towpath {

struct LookupOptions {
  std::string resolv_conf_path = "/etc/resolv.conf";
  std::string hosts_path = "/etc/hosts";
  std::uint16_t nameserver_port = 53;  // of the servers that resolv.conf names
  std::vector<Endpoint> nameservers;   // not empty: instead of those
  std::chrono::milliseconds total{10'000};
};

class Lookup {
 public:
  enum class Family : std::uint8_t { any, v4, v6 };
  using Ticket = std::uint64_t;  // never 0
  // IPv4 first, each address once; empty exactly when the error is not `none`.
  using Callback = std::function<void(std::vector<IpAddress>, LookupError)>;

  explicit Lookup(uv_loop_t* loop, LookupOptions options = {});
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;
  ~Lookup() { close(); }

  // `name` as it is, absolute; one trailing dot is ignored. After close(): 0, and no callback.
  Ticket resolve(std::string name, Family family, Callback callback) noexcept;
  // As the machine's own programs would find it: search domains and ndots of resolv.conf.
  Ticket resolve_like_host(std::string name, Family family, Callback callback) noexcept;
  // The callback is destroyed and not called. A ticket that is over is ignored.
  void cancel(Ticket ticket) noexcept;
  // Cancels all. May be called twice.
  void close() noexcept;

  // As it is now; reads it again when it changed. Valid until the next call of any kind.
  [[nodiscard]] const ResolvConf& resolv_conf() noexcept;
  // From the hosts file alone; empty: not there.
  [[nodiscard]] std::vector<IpAddress> in_hosts(std::string_view name) noexcept;
  // Lookups without an answer yet.
  [[nodiscard]] std::size_t pending() const noexcept;

 private:
  class Work;
  Work* work_;  // frees itself in the loop
};

}  // namespace towpath
