// Decisions and policies in words, for `towpath explain` and `towpath check`. Never shows a password.
#pragma once

#include <string>
#include <string_view>

#include "config/decide.h"
#include "config/policy.h"

namespace towpath {

// "github.com:443: tunnel through http://proxy:3128, then http://second:3128 (port 443 uses proxy.https)"
[[nodiscard]] std::string explain_text(const Decision& decision, const Destination& destination);
// {"destination":"github.com:443","route":"tunnel","via":"http://proxy:3128","rule":"..."}; "via" only for tunnel,
// and "then":["http://second:3128"] behind it where there are several.
[[nodiscard]] std::string explain_json(const Decision& decision, const Destination& destination);

// A JSON string (RFC 8259 7); bytes that are no UTF-8 become U+FFFD.
[[nodiscard]] std::string json_text(std::string_view text);

// The whole effective configuration as YAML that load() accepts again, passwords as ***.
[[nodiscard]] std::string describe(const Policy& policy);

}  // namespace towpath
