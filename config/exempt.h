// The exempt list (coderd.proxy.exempt, no_proxy): which destinations are never sent to a proxy. The rules are
// Go's, and seven differences that docs/configuration.md names D1 to D7:
//   name          that name and its subdomains        .name, *.name   its subdomains only
//   1.2.3.4, ::1  that address                        10.0.0.0/8      that range (never takes a port)
//   *             everything                          <local>         names without a dot
// Names and addresses may end in :port ([::1]:443). Entries that cannot mean anything are reported and never match.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.h"
#include "config/prefix.h"
#include "config/problem.h"

namespace towpath {

class ExemptRules {
 public:
  struct Match {
    bool exempt = false;
    std::string rule;  // the entry's text
  };
  // How many ports of a destination the rules cover.
  enum class Coverage : std::uint8_t { none, some_ports, all_ports };

  // Entries between commas and blanks. Unusable ones become warnings.
  [[nodiscard]] static ExemptRules parse(std::string_view list, std::string_view where, std::vector<Problem>& warnings);
  // The same, in addition to what is there, and with the severity that unusable entries deserve there.
  void add(std::string_view list, std::string_view where, Problem::Severity unusable, std::vector<Problem>& problems);

  // `name` as normalise_name() gives it, or empty; `address` may be none. Either may match.
  [[nodiscard]] Match match(std::string_view name, const IpAddress& address, std::uint16_t port) const;
  [[nodiscard]] Coverage coverage(std::string_view name, const IpAddress& address) const noexcept;

  [[nodiscard]] bool empty() const noexcept { return rules_.empty(); }
  // The usable entries as they were written.
  [[nodiscard]] std::vector<std::string> entries() const;
  // Where the entry of that text was given: "values.yaml:5:13: coderd.proxy.exempt"; "" when there is none.
  [[nodiscard]] std::string_view where(std::string_view text) const noexcept;

 private:
  struct Rule {
    enum class Kind : std::uint8_t { everything, undotted, name, subdomains, range } kind = Kind::everything;
    std::uint16_t port = 0;  // 0: any
    Prefix range;
    std::string name;
    std::string text, where;

    [[nodiscard]] bool covers(std::string_view host, const IpAddress& address) const noexcept;
  };

  // "" or why the entry is unusable.
  [[nodiscard]] static std::string read(std::string_view entry, Rule& rule);
  [[nodiscard]] static std::string read_target(std::string_view target, Rule& rule);

  std::vector<Rule> rules_;
};

}  // namespace towpath
