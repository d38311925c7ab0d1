#include "launcher/doctor/proxies.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "launcher/doctor/probe.h"
#include "launcher/doctor/report.h"

namespace towpath::doctor {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int soon_days = 14;

struct Configured {
  const ProxyList* list;
  std::string key;
  bool for_80, for_others;  // which ports it serves (config/decide)
};

// The one place that knows how a policy holds its proxies.
std::vector<Configured> configured(const Policy& policy) {
  std::vector<Configured> out;
  const auto add = [&](const ProxyList& list, std::string key, bool for_80, bool for_others) {
    if (!list.empty()) out.push_back({&list, std::move(key), for_80, for_others});
  };
  add(policy.http, "proxy.http", true, policy.https.empty() && policy.all.empty());
  add(policy.https, "proxy.https", false, true);
  add(policy.all, "all_proxy", policy.http.empty(), policy.https.empty());
  return out;
}

Failure failure_of(const Error& error, const ProxyUrl& proxy, const std::string& detail = {}) {
  Failure out;
  out.error = error;
  out.proxy = &proxy;
  out.detail = detail;
  return out;
}

int remaining(steady_clock::time_point until) {
  const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now()).count();
  return left > 0 ? static_cast<int>(left) : 0;
}

// 0 or an errno.
int reach(const Endpoint& to, steady_clock::time_point until, UniqueFd& out) {
  sockaddr_storage address;
  const int domain = to.native_domain();
  const socklen_t size = to.to(address, domain);
  out.reset(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out) return errno;
  if (connect(out.get(), reinterpret_cast<sockaddr*>(&address), size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd look{out.get(), POLLOUT, 0};
  if (poll(&look, 1, remaining(until)) != 1) return ETIMEDOUT;
  int error = 0;
  socklen_t room = sizeof error;
  return getsockopt(out.get(), SOL_SOCKET, SO_ERROR, &error, &room) == 0 ? error : errno;
}

bool secure(TlsChannel& channel, int fd, steady_clock::time_point until) {
  for (;;) {
    const TlsChannel::Step step = channel.handshake();
    if (step == TlsChannel::Step::done) return true;
    if (step != TlsChannel::Step::wants_read && step != TlsChannel::Step::wants_write) return false;
    pollfd look{fd, static_cast<short>(step == TlsChannel::Step::wants_read ? POLLIN : POLLOUT), 0};
    if (poll(&look, 1, remaining(until)) != 1) return false;
  }
}

// A name that exists nowhere (RFC 6761 section 6.4): whoever is asked for it knows so soon.
constexpr std::string_view nowhere = "towpath-doctor.invalid";

class ProxyCheck {
 public:
  ProxyCheck(const Policy& policy, const Configured& which, const ProxyUrl& proxy, Probe& probe,
             const std::string& target, Report& report)
      : policy_(policy), which_(which), proxy_(proxy), probe_(probe), target_(target), report_(report) {}

  void run() {
    if (!check_reach()) return;
    if (proxy_.scheme == ProxyScheme::https && !check_tls()) return;
    bool tunnelled = false;
    if (which_.for_others && !check_connect(443, tunnelled)) return;
    if (which_.for_80 && !check_connect(80, tunnelled)) return;
    if (proxy_.credentials && tunnelled) check_without_credentials();
    if (!which_.for_others && !which_.for_80) add("CONNECT", Result::skip, "other proxies serve every port");
  }
  // Would a connect go on to the next one of the list?
  [[nodiscard]] bool passed_over() const noexcept { return passed_over_; }

 private:
  void add(std::string_view what, Result result, std::string detail, std::string advice = {}) {
    const std::string place = which_.list->size() == 1 ? "" : "[" + std::to_string(&proxy_ - which_.list->data()) + "]";
    report_.add(which_.key + place + " " + std::string(what), result, std::move(detail), std::move(advice));
  }
  // It counts as one that cannot be reached. Alone that is the end; of a list the others serve.
  void pass_over(std::string_view what, std::string detail, std::string advice) {
    passed_over_ = true;
    if (which_.list->size() == 1) return add(what, Result::fail, std::move(detail), std::move(advice));
    advice += std::string(advice.empty() ? "" : "; ") + "connects pass it over and use the others of " + which_.key;
    add(what, Result::warn, std::move(detail), std::move(advice));
  }
  [[nodiscard]] steady_clock::time_point deadline() const { return steady_clock::now() + policy_.connect_timeout; }

  bool check_reach() {
    LookupError why = LookupError::none;
    std::vector<IpAddress> addresses = probe_.find(proxy_.host, why);
    if (why != LookupError::none) {
      FailureText words = explain_failure(failure_of({Err::proxy_unknown, Stage::lookup}, proxy_));
      pass_over("reach", proxy_.display() + ": " + words.reason + ": " + std::string(text_of(why)), words.hint);
      return false;
    }
    std::string failures;
    Error last;
    for (const IpAddress& address : addresses) {
      const auto began = steady_clock::now();
      const Endpoint to{address, proxy_.port};
      char text[Endpoint::text_size];
      const int error = reach(to, deadline(), connection_);
      if (error == 0) {
        const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began).count();
        add("reach", failures.empty() ? Result::ok : Result::warn,
            proxy_.display() + " at " + std::string(to.format(text)) + " in " + std::to_string(took) + " ms" + failures,
            failures.empty() ? "" : "each connect tries the addresses in this order");
        return true;
      }
      last = {Err::proxy_unreachable, Stage::connect, 0, error};
      failures += "; not at " + std::string(to.format(text)) + ": " + std::strerror(error);
    }
    const FailureText words = explain_failure(failure_of(last, proxy_));
    pass_over("reach", proxy_.display() + ": " + words.reason + failures, words.hint);
    return false;
  }

  bool check_tls() {
    std::string why;
    const std::shared_ptr<TlsClient> client = probe_.tls(why);
    if (!client) {
      pass_over("TLS", why, "correct proxy.tls");
      return false;
    }
    const auto channel = client->open(proxy_, connection_.get());
    if (!channel || !secure(*channel, connection_.get(), deadline())) {
      const Error error = channel && channel->error() ? channel->error() : Error{Err::deadline, Stage::tls};
      const FailureText words = explain_failure(failure_of(error, proxy_, channel ? channel->why() : std::string()));
      pass_over("TLS", words.reason, words.hint);
      return false;
    }
    const std::int64_t days = channel->certificate_seconds() / 86400;
    const std::string name = policy_.tls.server_name.empty() ? proxy_.host : policy_.tls.server_name;
    const bool unverified = policy_.tls.insecure_skip_verify;
    const std::string detail = channel->version() +
                               (unverified ? ", the certificate is not verified" : ", certificate valid for " + name) +
                               ", it expires in " + std::to_string(days) + " days";
    add("TLS", unverified || days < soon_days ? Result::warn : Result::ok, detail,
        unverified ? "insecureSkipVerify lets anybody be the proxy, and read its credentials: set caFile instead"
        : days < soon_days ? "renew the proxy's certificate"
                           : "");
    return true;
  }

  // False: nothing more is worth trying at this proxy.
  bool check_connect(std::uint16_t port, bool& tunnelled) {
    const std::string name = "CONNECT " + std::to_string(port);
    const std::string to = target_ + ":" + std::to_string(port);
    if (!policy_.ports.contains(port)) {
      add(name, Result::skip, "port " + std::to_string(port) + " is not among `ports`: it is reached directly");
      return true;
    }
    const Probe::Outcome seen = probe_.connect(proxy_, target_, port);
    const std::string ms = " in " + std::to_string(seen.took.count()) + " ms";
    switch (seen.error.code) {
      case Err::ok:
        if (seen.absolute) {
          check_absolute(name, to, seen);
          return true;
        }
        tunnelled = true;
        add(name, Result::ok, to + ": the tunnel stood" + ms);
        return true;
      case Err::refused:
      case Err::target_refused:
      case Err::target_timeout:
      case Err::target_unreachable:
      case Err::network_unreachable:
        tunnelled = true;
        add(name, Result::warn, to + ": the proxy accepts us, but not the destination: " + seen.words.reason,
            "name a host that this proxy can reach: --target HOST");
        return true;
      case Err::denied:
        add(name, Result::fail, to + ": " + seen.words.reason,
            seen.words.hint + (seen.words.hint.empty() ? "" : "; ") +
                "a proxy that allows certain hosts only is asked with --target HOST");
        return true;
      case Err::wants_credentials:
      case Err::bad_credentials: add("credentials", Result::fail, seen.words.reason, seen.words.hint); return false;
      case Err::deadline: return check_silence(name, to, seen.words);
      case Err::proxy_unreachable:
      case Err::closed_early:
      case Err::tls_failed:
      case Err::tls_verification: pass_over(name, to + ": " + seen.words.reason, seen.words.hint); return false;
      default: add(name, Result::fail, to + ": " + seen.words.reason, seen.words.hint); return false;
    }
  }

  // Does it wait for the destination, or does it never say a word? True: it is a proxy.
  bool check_silence(const std::string& name, const std::string& to, const FailureText& words) {
    const Probe::Outcome seen = probe_.connect(proxy_, std::string(nowhere), 443);
    switch (seen.error.code) {
      case Err::deadline:
      case Err::closed_early:
      case Err::proxy_unreachable:
      case Err::proxy_unknown:
      case Err::tls_failed:
      case Err::tls_verification:
      case Err::os_error: pass_over(name, to + ": " + words.reason, words.hint); return false;
      default: break;
    }
    add(name, Result::warn, to + ": no answer in time, but the proxy does answer: it waits for the destination",
        "name a host that this proxy can reach: --target HOST");
    return true;
  }

  void check_absolute(const std::string& name, const std::string& to, const Probe::Outcome& seen) {
    const std::string head =
        to + (policy_.plain_http == PlainHttp::absolute ? ": plainHttp: absolute asks per request"
                                                        : ": the proxy refuses to tunnel port 80, so requests go to it "
                                                          "in absolute form");
    const std::string asked = "; GET http://" + target_ + "/: ";
    const auto blank = seen.answer.find(' ');
    const std::string status = blank == seen.answer.npos ? std::string() : seen.answer.substr(blank + 1, 3);
    if (status.empty()) add(name, Result::fail, head + asked + "no answer", "the proxy's own log says why");
    else if (status == "407")
      add(name, Result::fail, head + asked + seen.answer, "check user and password of the proxy");
    else if (status == "403" || status == "405")
      add(name, Result::fail, head + asked + seen.answer,
          "the proxy's rules (or the site's) decide this: ask its operator, or name another host with --target");
    else if (status[0] == '5')
      add(name, Result::warn, head + asked + seen.answer, "name a host that this proxy can reach: --target HOST");
    else add(name, Result::ok, head + asked + seen.answer);
  }

  // Would it do without? Then a wrong password would not show either.
  void check_without_credentials() {
    ProxyUrl plain = proxy_;
    plain.credentials.reset();
    const Probe::Outcome seen = probe_.connect(plain, target_, which_.for_others ? 443 : 80);
    if (!seen.error && !seen.absolute)
      add("credentials", Result::ok, "sent, and nobody asks for them: the proxy lets us through without, too");
    else if (seen.absolute || seen.error.code == Err::wants_credentials)
      add("credentials", Result::ok, "accepted; without them the proxy refuses");
    else add("credentials", Result::ok, "accepted; without them: " + seen.words.reason);
  }

  const Policy& policy_;
  const Configured& which_;
  const ProxyUrl& proxy_;
  Probe& probe_;
  const std::string& target_;
  Report& report_;
  bool passed_over_ = false;
  UniqueFd connection_;
};

// Every one of a list: each may be the next.
void report_list(const Policy& policy, const Configured& which, Probe& probe, const std::string& target,
                 Report& report) {
  bool any = false;
  for (const ProxyUrl& proxy : *which.list) {
    ProxyCheck check(policy, which, proxy, probe, target, report);
    check.run();
    any = any || !check.passed_over();
  }
  if (!any && which.list->size() > 1)
    report.add(which.key, Result::fail, "none of its " + std::to_string(which.list->size()) + " proxies can be used",
               "each has its line above; nothing is connected directly instead");
}

}  // namespace

void report_proxies(const Policy& policy, Probe& probe, const std::string& target, Report& report) {
  const std::vector<Configured> all = configured(policy);
  if (all.empty())
    report.add("proxies", Result::warn, "none is configured: `towpath run` starts programs as they are",
               "give -c FILE, --http URL or http_proxy; `towpath check` says what is in effect");
  for (const Configured& each : all) report_list(policy, each, probe, target, report);
}

}  // namespace towpath::doctor
