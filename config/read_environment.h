// The same settings from the environment, as the Helm chart exports them. Only what nobody claimed before.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/draft.h"

namespace towpath {

using Environment = std::map<std::string, std::string>;

void read_environment(const Environment& environment, Draft& draft);
// The proxy variables (http_proxy, HTTPS_PROXY, ...) that are there, empty ones included.
[[nodiscard]] std::vector<std::string> present_proxy_variables(const Environment& environment);

}  // namespace towpath
