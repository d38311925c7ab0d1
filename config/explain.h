// Decisions and policies in words, for `towpath explain` and `towpath check`. Never shows a password.
#pragma once

#include <string>
#include <string_view>

#include "config/decide.h"
#include "config/policy.h"

namespace towpath {

// Where the value that decided was given: "values.yaml:4:12: coderd.proxy.https", "$no_proxy", "--http"; "" for rules
// that nobody gave (loopback). Found by the decision's words, so that deciding itself carries nothing for it.
[[nodiscard]] std::string_view source_of(const Policy& policy, const Decision& decision) noexcept;

// "github.com:443: tunnel through http://proxy:3128, then http://second:3128 (port 443 uses proxy.https, from
// values.yaml:4:12: coderd.proxy.https)"
[[nodiscard]] std::string explain_text(const Decision& decision, const Destination& destination,
                                       std::string_view source = {});
// {"destination":"github.com:443","route":"tunnel","via":"http://proxy:3128","rule":"...","source":"..."}; "via" only
// for tunnel, and "then":["http://second:3128"] behind it where there are several; "source" only where there is one.
[[nodiscard]] std::string explain_json(const Decision& decision, const Destination& destination,
                                       std::string_view source = {});

// A JSON string (RFC 8259 7); bytes that are no UTF-8 become U+FFFD.
[[nodiscard]] std::string json_text(std::string_view text);

// The whole effective configuration as YAML that load() accepts again, passwords as ***.
[[nodiscard]] std::string describe(const Policy& policy);

}  // namespace towpath
