// What becomes of datagrams: nothing of ours carries them, so they are led to our own name service (port 53), left
// alone, or silenced. A silenced socket may be connected, since programs and libc connect datagram sockets only to
// learn which of their own addresses would be used; it may not send.
#pragma once

#include "agent/derived_policy.h"
#include "agent/dns_stub.h"
#include "agent/names.h"
#include "agent/page_writer.h"
#include "agent/this_host.h"
#include "config/policy.h"
#include "proto/wire.h"

namespace towpath {

class Datagrams {
 public:
  Datagrams(const std::shared_ptr<const Policy>& policy, ThisHost& host, NameService& names, DnsStub& stub,
            PageWriter& page, const Log& log)
      : policy_(policy), host_(host), names_(names), stub_(stub), page_(page), log_(log) {}

  // `fd` is the socket that the ask is about, checked against it.
  [[nodiscard]] wire::Reply judge(const wire::DatagramAsk& ask, int fd);

 private:
  [[nodiscard]] wire::Reply lead(const wire::DatagramAsk& ask, int fd);
  [[nodiscard]] bool silenced(const Endpoint& target);

  const std::shared_ptr<const Policy>& policy_;
  DerivedPolicy any_port_{[](Policy& policy) { policy.ports = {}; }};  // the list of ports is about TCP
  ThisHost& host_;
  NameService& names_;
  DnsStub& stub_;
  PageWriter& page_;
  const Log& log_;
};

// The socket would go to a name server, and a socket of that kind cannot be led anywhere else: bound to a device that
// is not the loopback, it would put its questions on that device's wire.
[[nodiscard]] bool bound_to_device(int fd) noexcept;

}  // namespace towpath
