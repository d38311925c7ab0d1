// The checks of every configured proxy, and of the names that this machine has to look up itself.
#pragma once

#include <memory>
#include <string>

#include "config/policy.h"

namespace towpath::doctor {

class Report;
class Probe;

// `target`: a host for CONNECT.
void report_proxies(const Policy& policy, Probe& probe, const std::string& target, Report& report);
void report_names(const Policy& policy, Probe& probe, Report& report);

}  // namespace towpath::doctor
