// The checks of what towpath does to programs: the library and the supervisor.
#pragma once

#include <string>

namespace towpath::doctor {

class Report;
struct Machine;

// What was found, in one sentence: which front ends work here, and for whom. `program`: the file that matters, ""
// when any kind may: what it does not need is only warned of.
[[nodiscard]] std::string report_mechanisms(const Machine& machine, const std::string& program, Report& report);

}  // namespace towpath::doctor
