#include "agent/tls_clients.h"

#include <utility>

namespace towpath {

std::shared_ptr<TlsClient> TlsClients::of(const std::shared_ptr<const Policy>& policy, std::string& why) {
  if (const auto known = clients_.find(policy); known != clients_.end()) return known->second;
  std::shared_ptr<TlsClient> fresh = TlsClient::create(policy->tls, why);
  if (fresh) adopt(policy, fresh);
  return fresh;
}

void TlsClients::adopt(const std::shared_ptr<const Policy>& policy, std::shared_ptr<TlsClient> client) {
  std::erase_if(clients_, [](const auto& each) { return each.first.expired(); });
  clients_.insert_or_assign(policy, std::move(client));
}

}  // namespace towpath
