#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <unistd.h>
#include <uv.h>

#include "launcher/doctor/probe.h"
#include "launcher/doctor/proxies.h"
#include "launcher/doctor/report.h"
#include "resolver/resolv_conf.h"

namespace towpath::doctor {

namespace {

constexpr const char* resolv_conf_path = "/etc/resolv.conf";
constexpr std::chrono::milliseconds server_patience{3000};
constexpr std::size_t most_exempt = 8;

// Does that server answer at all? Asked for a name that exists nowhere (RFC 6761 6.4), and so gives nothing away.
LookupError ask_server(const Endpoint& server) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  LookupError out = LookupError::no_answer;
  {
    LookupOptions options;
    options.nameservers = {server};
    options.hosts_path = "/dev/null";
    options.total = server_patience;
    Lookup lookup(&loop, options);
    bool done = false;
    (void)lookup.resolve("towpath.invalid", Lookup::Family::v4, [&](const std::vector<IpAddress>&, LookupError error) {
      out = error;
      done = true;
    });
    while (!done && uv_run(&loop, UV_RUN_ONCE) != 0) {
    }
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return out;
}

bool answers(LookupError error) { return error == LookupError::none || error == LookupError::not_found; }

void report_servers(const Policy& policy, Report& report) {
  std::ifstream file(resolv_conf_path);
  if (!file) {
    report.add("resolv.conf", policy.dns == DnsMode::proxy ? Result::ok : Result::warn,
               std::string(resolv_conf_path) + ": " + std::strerror(errno) +
                   (policy.dns == DnsMode::proxy ? ": not needed, the proxies look names up" : ""));
    return;
  }
  std::stringstream text;
  text << file.rdbuf();
  const ResolvConf conf = ResolvConf::parse(text.str());
  if (conf.nameservers.empty()) {
    report.add("resolv.conf", Result::ok, "names no server: 127.0.0.1 is asked, as by any program");
    return;
  }
  std::string silent, spoken;
  for (const Endpoint& server : conf.nameservers) {
    const LookupError error = ask_server(server);
    char room[IpAddress::text_size];
    std::string& list = answers(error) ? spoken : silent;
    list += (list.empty() ? "" : ", ") + std::string(server.address.format(room)) +
            (answers(error) ? "" : " (" + std::string(text_of(error)) + ")");
  }
  if (silent.empty()) return report.add("name servers", Result::ok, spoken + ": answer");
  const bool needed = policy.dns == DnsMode::local || !policy.any_proxy();
  const std::string detail = "no answer from " + silent + (spoken.empty() ? "" : "; answer: " + spoken);
  if (!spoken.empty())
    return report.add("name servers", Result::warn, detail, "take the silent ones out of /etc/resolv.conf");
  report.add("name servers", needed ? Result::fail : Result::warn,
             detail + (needed ? "" : ". The proxies look names up; exempt names and the proxies' own need one here"),
             "correct /etc/resolv.conf, or allow UDP and TCP to port 53 of these servers");
}

// Entries that name a host. What is only the end of names has no address of its own, and need not have one.
void report_exempt(const Policy& policy, Probe& probe, Report& report) {
  std::size_t looked_at = 0;
  for (const std::string& entry : policy.exempt.entries()) {
    const bool name =
        entry.find_first_of("*</") == entry.npos && !entry.starts_with('.') && entry.find('.') != entry.npos;
    const std::string host = entry.substr(0, entry.find(':'));
    if (!name || IpAddress::parse(entry) || IpAddress::parse(host) || entry.starts_with('[')) continue;
    if (++looked_at > most_exempt) break;
    LookupError error = LookupError::none;
    const std::vector<IpAddress> found = probe.find(host, error);
    const std::string title = "exempt " + host;
    if (error == LookupError::none) {
      char room[IpAddress::text_size];
      report.add(title, Result::ok, "reached directly, at " + std::string(found.front().format(room)));
    } else if (error == LookupError::not_found) {
      report.add(title, Result::ok, "has no address of its own here: right for a domain, wrong for a host");
    } else {
      report.add(title, Result::warn, std::string(text_of(error)),
                 "exempt names are looked up on this machine: correct /etc/resolv.conf, or add it to /etc/hosts");
    }
  }
}

// Where the synthetic addresses would mean something else.
std::string user_of(const Prefix& range) {
  ifaddrs* list = nullptr;
  std::string out;
  if (getifaddrs(&list) == 0) {
    for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
      if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET) continue;
      const Endpoint own = Endpoint::from(at->ifa_addr, sizeof(sockaddr_in));
      if (own.address && range.contains(own.address)) out = std::string("this machine's interface ") + at->ifa_name;
    }
    freeifaddrs(list);
  }
  // Iface Destination Gateway Flags RefCnt Use Metric Mask ..., addresses as the number that the memory holds
  std::ifstream routes("/proc/net/route");
  for (std::string line; out.empty() && std::getline(routes, line);) {
    std::istringstream words(line);
    std::string interface, skipped;
    std::uint32_t destination = 0, mask = 0;
    words >> interface >> std::hex >> destination >> skipped >> skipped >> skipped >> skipped >> skipped >> mask;
    if (!words || mask == 0) continue;
    const IpAddress to = IpAddress::v4(ntohl(destination));
    const auto bits = static_cast<unsigned>(__builtin_popcount(mask));
    if (range.contains(to) || range.address.in_prefix(to, bits)) out = "a route of this machine through " + interface;
  }
  return out;
}

void report_range(const Policy& policy, Report& report) {
  const std::string user = user_of(policy.synthetic_range);
  if (user.empty())
    report.add("synthetic addresses", Result::ok, policy.synthetic_range.text() + " is nobody else's here");
  else
    report.add("synthetic addresses", Result::warn,
               policy.synthetic_range.text() + " is used by " + user + ": programs under towpath cannot reach it",
               "set proxy.syntheticRange to a range that is free here");
}

}  // namespace

void report_names(const Policy& policy, Probe& probe, Report& report) {
  report_servers(policy, report);
  if (access("/etc/hosts", R_OK) != 0)
    report.add("hosts", Result::ok,
               std::string("/etc/hosts: ") + std::strerror(errno) + ": only localhost is known without a name server");
  else report.add("hosts", Result::ok, "/etc/hosts can be read");
  report_exempt(policy, probe, report);
  if (policy.any_proxy()) report_range(policy, report);
}

}  // namespace towpath::doctor
