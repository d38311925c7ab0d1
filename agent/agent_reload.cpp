// Another policy for a running tree. What has begun ends under the policy that it began with (an attempt holds its
// own); everything that is asked from now on sees the new one, whole.
#include <algorithm>

#include "agent/agent.h"

namespace towpath {

namespace {

std::vector<const ProxyUrl*> proxies_of(const Policy& policy) {
  std::vector<const ProxyUrl*> out;
  for (const ProxyList* list : policy.proxy_lists())
    for (const ProxyUrl& proxy : *list) out.push_back(&proxy);
  return out;
}

bool same_place(const ProxyUrl& a, const ProxyUrl& b) { return a.host == b.host && a.port == b.port; }

bool same_tls(const TlsSettings& a, const TlsSettings& b) {
  return a.ca_file == b.ca_file && a.ca_dirs == b.ca_dirs && a.cert_file == b.cert_file && a.key_file == b.key_file &&
         a.server_name == b.server_name && a.insecure_skip_verify == b.insecure_skip_verify && a.content == b.content;
}

}  // namespace

void Agent::publish_policy() {
  page_.set_net(static_cast<PageNet>(policy_->net));
  page_.set_setuid_direct(policy_->setuid == SetuidMode::direct);
  page_.set_udp_blocked(policy_->udp == UdpMode::block && policy_->any_proxy());
  proxies_.adopt(*policy_);
  for (const ProxyUrl* proxy : proxies_of(*policy_))
    if (const IpAddress literal = IpAddress::parse(proxy->host)) on_proxy_found(*policy_, {{literal, proxy->port}});
}

bool Agent::set_policy(std::shared_ptr<const Policy> next, std::string& why) {
  const auto before = proxies_of(*policy_), after = proxies_of(*next);
  if (std::any_of(after.begin(), after.end(),
                  [](const ProxyUrl* proxy) { return proxy->scheme == ProxyScheme::https; })) {
    // What cannot be used is found out now, and not by the next connect.
    const std::shared_ptr<TlsClient> client = tls_.of(same_tls(policy_->tls, next->tls) ? policy_ : next, why);
    if (!client) return false;
    tls_.adopt(next, client);
  }
  // Where the names of proxies led to is learnt anew as soon as one of them is not a proxy any more.
  const bool all_stay = std::all_of(before.begin(), before.end(), [&](const ProxyUrl* old) {
    return std::any_of(after.begin(), after.end(), [&](const ProxyUrl* each) { return same_place(*old, *each); });
  });
  if (!all_stay) proxy_endpoints_.clear();
  const std::shared_ptr<const Policy> old = std::exchange(policy_, std::move(next));  // `before` points into it
  inbound_.set(policy_->reverse);
  publish_policy();
  // Last: whoever asks again because of this gets the new answer.
  page_.raise_epoch();
  return true;
}

void Agent::note_reload(bool applied, std::string problem) {
  ++(applied ? reloads_.applied : reloads_.failed);
  reloads_.last_at = std::time(nullptr);
  reloads_.last_applied = applied;
  reloads_.last_problem = std::move(problem);
}

pid_t Agent::any_asker() {
  (void)any_asker_alive();
  return askers_.empty() ? 0 : *askers_.begin();
}

}  // namespace towpath
