// Passes DNS questions on to name servers as they are, and their replies back as they are; only the id is our own.
//
// Each question has a socket (and so a source port) of its own and a random id; a reply counts when it comes from
// the asked server, under that id, to that question. Servers are asked in turn, one after the other is silent
// for `per_server` or of no use (refused, SERVFAIL). UDP first; a truncated reply is fetched again over TCP for those
// who can take it whole. Bounded in number and time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include <uv.h>

#include "base/endpoint.h"
#include "proto/dns_message.h"

namespace towpath {

class DnsForwarder {
 public:
  // Empty: nobody answered. Comes from the loop, never from inside forward().
  using Done = std::function<void(std::vector<std::byte>)>;
  static constexpr std::size_t most = 1024;  // questions at once

  explicit DnsForwarder(uv_loop_t* loop, std::chrono::milliseconds per_server = std::chrono::seconds{5});
  ~DnsForwarder();
  DnsForwarder(const DnsForwarder&) = delete;
  DnsForwarder& operator=(const DnsForwarder&) = delete;

  // `query` is what `question` was read from. `whole`: the asker takes replies of any length. False: too many already;
  // `done` is not called then.
  [[nodiscard]] bool forward(std::span<const std::byte> query, const dns::Question& question,
                             std::vector<Endpoint> servers, bool whole, Done done);
  [[nodiscard]] std::size_t in_flight() const noexcept { return asked_.size(); }

 private:
  class Asked;
  void over(Asked& asked, std::vector<std::byte> reply);

  uv_loop_t* loop_;
  std::chrono::milliseconds per_server_;
  std::unordered_map<Asked*, std::unique_ptr<Asked>> asked_;
};

}  // namespace towpath
