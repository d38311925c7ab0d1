// The checks of what towpath does to programs: the library and the supervisor.
#pragma once

#include <string>

namespace towpath::doctor {

class Report;
struct Machine;

// What was found, in one sentence: which front ends work here, and for whom. `command`: the program that matters,
// as `towpath run` would find it; "" when any may: what it does not need is only warned of.
[[nodiscard]] std::string report_mechanisms(const Machine& machine, const std::string& command, Report& report);

}  // namespace towpath::doctor
