// Decisions and policies in words, for `towpath explain` and `towpath check`. Never shows a password.
#pragma once

#include <string>

#include "config/decide.h"
#include "config/policy.h"

namespace towpath {

// "github.com:443: tunnel through http://proxy:3128 (port 443 uses proxy.https)"
[[nodiscard]] std::string explain_text(const Decision& decision, const Destination& destination);
// {"destination":"github.com:443","route":"tunnel","via":"http://proxy:3128","rule":"..."}; "via" only for tunnel.
[[nodiscard]] std::string explain_json(const Decision& decision, const Destination& destination);

// The whole effective configuration as YAML that load() accepts again, passwords as ***.
[[nodiscard]] std::string describe(const Policy& policy);

}  // namespace towpath
