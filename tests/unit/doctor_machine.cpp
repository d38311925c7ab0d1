#include "launcher/doctor/machine.h"

#include <doctest/doctest.h>

using towpath::doctor::is_gvisor;
using towpath::doctor::Machine;

TEST_CASE("doctor: gVisor by what it calls itself, old and new") {
  CHECK(is_gvisor("4.4.0", "#1 SMP Sun Jan 10 15:06:54 PST 2016"));
  CHECK(is_gvisor("4.19.0-gvisor", "#1 SMP Sun Jan 10 15:06:54 PST 2016"));
  CHECK_FALSE(is_gvisor("4.4.0-210-generic", "#242-Ubuntu SMP Fri Apr 16 09:57:56 UTC 2021"));
  CHECK_FALSE(is_gvisor("6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)"));
}

TEST_CASE("doctor: which kernel is older") {
  Machine machine;
  machine.major = 5;
  machine.minor = 9;
  CHECK_FALSE(machine.older_than(5, 9));
  CHECK(machine.older_than(5, 10));
  CHECK(machine.older_than(6, 0));
  machine.minor = 15;
  CHECK_FALSE(machine.older_than(5, 9));
  machine.major = 4;
  CHECK(machine.older_than(5, 9));
}
