// What a server's own environment says of the services that it will connect to: a coderd in Kubernetes reaches its
// database and the cluster by names or addresses that a proxy outside of the cluster knows nothing of.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/decide.h"
#include "config/policy.h"
#include "config/problem.h"

namespace towpath {

// One warning for each of $CODER_PG_CONNECTION_URL and $KUBERNETES_SERVICE_HOST whose host would be tunnelled. Never
// shows the user or the password of a URL.
[[nodiscard]] std::vector<Problem> tunnelled_services(const Policy& policy,
                                                      const std::map<std::string, std::string>& environment,
                                                      const Surroundings& around = {});

}  // namespace towpath
