// No descriptor is free in the agent. What it cannot take waits, or is refused with ENFILE: a program must not take it
// for its own limit.
#pragma once

#include "agent/log.h"

namespace towpath {

void say_full(const Log& log);

}  // namespace towpath
