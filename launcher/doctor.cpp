// `towpath doctor`: tries everything that towpath needs on this machine, and says what to change.
#include <algorithm>
#include <csignal>
#include <memory>

#include <unistd.h>

#include "config/services.h"
#include "launcher/commands.h"
#include "launcher/doctor/machine.h"
#include "launcher/doctor/mechanisms.h"
#include "launcher/doctor/probe.h"
#include "launcher/doctor/proxies.h"
#include "launcher/doctor/report.h"

namespace towpath {

namespace {

using doctor::Report;
using doctor::Result;

// Nobody waits a minute for each of a doctor's attempts.
constexpr std::chrono::milliseconds patience = std::chrono::seconds{10};

void report_configuration(const Loaded& loaded, Report& report) {
  for (const Problem& problem : loaded.problems)
    report.add("configuration", problem.severity == Problem::Severity::error ? Result::fail : Result::warn,
               problem.text());
  if (!loaded.policy) return;
  if (loaded.problems.empty())
    report.add("configuration", Result::ok, loaded.policy->source.empty() ? "nothing is set" : loaded.policy->source);
  for (const Problem& problem : tunnelled_services(*loaded.policy, environment_map(environ)))
    report.add("configuration", Result::warn, problem.text());
}

}  // namespace

int doctor_command(const DoctorOptions& options) {
  signal(SIGPIPE, SIG_IGN);
  Report report(options.json);
  // The configuration's problems are checks like any other: they are in the JSON as well.
  const Loaded loaded = load({options.common.file, options.common.overrides, environment_map(environ)});
  report_configuration(loaded, report);
  const doctor::Machine machine = doctor::look_at_machine();
  doctor::report_machine(machine, report);
  const std::string summary = doctor::report_mechanisms(machine, options.program, report);
  if (loaded.policy) {
    auto policy = std::make_shared<Policy>(*loaded.policy);
    policy->connect_timeout = std::min(policy->connect_timeout, patience);
    doctor::Probe probe(policy);
    doctor::report_proxies(*policy, probe, options.target, report);
    doctor::report_names(*policy, probe, report);
  } else {
    report.add("proxies", Result::skip, "not tried: the configuration has errors");
  }
  report.close(summary + (report.failed() ? ". Something that is needed does not work" : ". All that is needed works"));
  return report.failed() ? 1 : 0;
}

}  // namespace towpath
