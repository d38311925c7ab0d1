// The TLS client of each policy. What began under one policy ends under its rules: never verified less than it was
// promised, nor with another certificate, whatever is reloaded meanwhile.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "agent/tls.h"
#include "config/policy.h"

namespace towpath {

class TlsClients {
 public:
  // Made at first use: initialising OpenSSL takes milliseconds. Null with the reason when the settings of `policy`
  // cannot be used.
  [[nodiscard]] std::shared_ptr<TlsClient> of(const std::shared_ptr<const Policy>& policy, std::string& why);
  // From now on `policy` has this one. Policies whose settings are the same share theirs, and its sessions.
  void adopt(const std::shared_ptr<const Policy>& policy, std::shared_ptr<TlsClient> client);

 private:
  // By identity; those of policies that nobody goes by any more are dropped with the next new one.
  std::map<std::weak_ptr<const Policy>, std::shared_ptr<TlsClient>, std::owner_less<>> clients_;
};

}  // namespace towpath
