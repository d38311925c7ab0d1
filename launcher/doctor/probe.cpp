#include "launcher/doctor/probe.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace towpath::doctor {

namespace {

constexpr std::uint64_t tick_ms = 20;  // how soon something is seen that is no event of the loop

// A socket that can reach proxies of both families, where this machine has both.
UniqueFd program_socket(wire::ConnectAsk& ask) {
  const int off = 0;
  ask.domain = AF_INET6;
  UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd && setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0) return fd;
  ask.domain = AF_INET;
  return UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

}  // namespace

Probe::Probe(std::shared_ptr<const Policy> policy) : policy_(std::move(policy)), log_(2, Level::error) {
  uv_loop_init(&loop_);
  sockets_ = std::make_unique<SocketWatch>(&loop_);
  lookup_ = std::make_unique<Lookup>(&loop_);
  door_ = std::make_unique<RelayDoor>(&loop_);
  plain_ = std::make_unique<PlainRelays>(*this, log_);
}

Probe::~Probe() {
  plain_.reset();
  door_.reset();
  lookup_->close();
  (void)run_until([&] { return lookup_->pending() == 0; });
  lookup_.reset();
  sockets_.reset();
  tick_.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  uv_loop_close(&loop_);
}

std::shared_ptr<TlsClient> Probe::tls(const std::shared_ptr<const Policy>& policy, std::string& why) {
  return tls_.of(policy, why);
}

template <class Done>
bool Probe::run_until(Done done) {
  const std::uint64_t start = uv_hrtime();
  const auto patience = static_cast<std::uint64_t>(policy_->connect_timeout.count() + 1000) * 1'000'000;
  tick_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(&loop_, handle); });
  uv_timer_start(
      tick_.get(), [](uv_timer_t*) {}, tick_ms, tick_ms);
  while (!done() && uv_hrtime() - start < patience) uv_run(&loop_, UV_RUN_ONCE);
  tick_.reset();
  return done();
}

void Probe::on_verdict(Attempt& attempt, SocketState, const Error& error) {
  over_ = true;
  outcome_.error = error;
  outcome_.status = attempt.status();
  if (!error) return;
  const Attempt::Order& order = attempt.order();
  Failure failure;
  failure.error = error;
  failure.proxy = order.proxy;
  failure.target = order.name + ":" + std::to_string(order.ask.target.port);
  failure.port = order.ask.target.port;
  failure.status = attempt.status();
  failure.detail = attempt.detail();
  failure.sent_login = attempt.sent_login();
  outcome_.words = explain_failure(failure);
}

Probe::Outcome Probe::connect(const ProxyUrl& given, const std::string& host, std::uint16_t port) {
  const ProxyUrl& proxy = asked_.emplace_back(given);
  Attempt::Order order;
  order.policy = policy_;
  order.proxies = {&proxy, 1};
  order.name = host;
  order.ask.target = {IpAddress::parse(host), port};
  if (order.ask.target.address) order.name.clear();
  order.socket = program_socket(order.ask);
  order.asker = {getpid(), geteuid()};
  const UniqueFd program(fcntl(order.socket.get(), F_DUPFD_CLOEXEC, 3));
  outcome_ = {};
  over_ = false;
  if (!program) {
    outcome_.error = {Err::os_error, Stage::connect, 0, errno};
    outcome_.words.reason = std::strerror(errno);
    return outcome_;
  }
  const auto began = std::chrono::steady_clock::now();
  {
    Attempt attempt(*this, std::move(order));
    attempt.start(nullptr);
    (void)run_until([&] { return over_; });
    attempt.cancel();
  }
  outcome_.took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
  outcome_.absolute = !outcome_.error && plain_->absolute_at_once(*policy_, proxy, port);
  if (outcome_.absolute) outcome_.answer = ask_for_root(program.get(), host);
  return outcome_;
}

// What a program would do with the connection, which is rewritten for the proxy on its way.
std::string Probe::ask_for_root(int fd, const std::string& host) {
  const std::string request = "GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) return {};
  std::string answer;
  (void)run_until([&] {
    char bytes[512];
    const ssize_t size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (size > 0) answer.append(bytes, static_cast<std::size_t>(size));
    return size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR) || answer.find('\n') != answer.npos;
  });
  plain_->sweep();
  const auto end = answer.find_first_of("\r\n");
  return end == answer.npos ? std::string() : answer.substr(0, end);
}

std::vector<IpAddress> Probe::find(const std::string& name, LookupError& error) {
  if (const IpAddress literal = IpAddress::parse(name)) {
    error = LookupError::none;
    return {literal};
  }
  std::vector<IpAddress> out;
  bool done = false;
  error = LookupError::no_answer;
  const Lookup::Ticket ticket =
      lookup_->resolve_like_host(name, Lookup::Family::any, [&](std::vector<IpAddress> found, LookupError why) {
        out = std::move(found);
        error = why;
        done = true;
      });
  if (ticket != 0 && !run_until([&] { return done; })) lookup_->cancel(ticket);
  return out;
}

}  // namespace towpath::doctor
