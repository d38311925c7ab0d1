// What the agent tells of its work: one log line per connection, the counters, and `status` to whoever may ask.
#include "agent/agent.h"

#include <algorithm>
#include <cerrno>
#include <ctime>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/status_text.h"
#include "trap/enter.h"

namespace towpath {

namespace {

// Nobody can change any more what it holds: the reader need not trust the timing of anybody's writes. None: errno.
UniqueFd sealed(std::string_view text) {
  UniqueFd fd(memfd_create("towpath-status", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  for (std::size_t at = 0; fd && at < text.size();) {
    const ssize_t written = write(fd.get(), text.data() + at, text.size() - at);
    if (written < 0 && errno != EINTR) return {};
    if (written > 0) at += static_cast<std::size_t>(written);
  }
  if (fd && fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) fd.reset();
  return fd;
}

}  // namespace

Ruling Agent::refuse(const Asker& asker, const std::string& target, const ProxyUrl* proxy, const Error& error,
                     const std::string& rule) {
  ++stats_.refused;
  ++stats_.of(proxy).failures[static_cast<std::size_t>(error.code)];
  Failure failure;
  failure.error = error;
  failure.proxy = proxy;
  failure.target = target;
  failure.rule = rule;
  log_failure(asker, failure);
  return {Ruling::Kind::refused, errno_of(error), {}, nullptr};
}

// The connect itself is the program's own: how it ends is not seen here.
void Agent::tell_direct(const Asker& asker, const std::string& target, const std::string& rule) {
  ++stats_.direct;
  if (!log_.wants(Level::debug)) return;
  LogLine line(log_, Level::debug, "connect");
  line.add("program", asker.program()).about(asker.pid).add("target", target).add("rule", rule);
  line.add("route", "direct").add("result", "native");
}

void Agent::tell(const Attempt& attempt, SocketState state, const Error& error) {
  const Attempt::Order& order = attempt.order();
  page_.finish(order.ask.cookie, state, errno_of(error));
  ProxyCounters& counters = stats_.of(order.proxy);
  if (attempt.fell_back()) ++counters.fallbacks;
  if (state != SocketState::open) {
    ++counters.failures[static_cast<std::size_t>(error.code)];
  } else if (order.proxy == nullptr) {
    page_.mark_direct(order.ask.cookie);
  } else if (attempt.absolute()) {
    ++counters.absolute;
    page_.mark_direct(order.ask.cookie);  // no tunnel either
  } else {
    ++counters.opened;
    counters.handshake.add(uv_now(loop_) - attempt.times().started_ms);
  }
  if (state == SocketState::open || error.code == Err::cancelled) return log_connect(attempt, error);
  Failure failure;
  failure.error = error;
  failure.proxy = order.proxy;
  failure.target = target_text(order.name, order.ask.target);
  failure.port = order.ask.target.port;
  failure.status = attempt.status();
  failure.detail = attempt.detail();
  failure.sent_login = attempt.sent_login();
  failure.tried = attempt.tried();
  failure.rule = order.rule;
  failure.attempt = &attempt;
  log_failure(order.asker, failure);
}

void Agent::log_connect(const Attempt& attempt, const Error& error) {
  if (!log_.wants(Level::debug)) return;
  const Attempt::Order& order = attempt.order();
  LogLine line(log_, Level::debug, "connect");
  line.add("program", order.asker.program()).about(order.asker.pid);
  line.add("target", target_text(order.name, order.ask.target)).add("rule", order.rule);
  line.add("route", order.proxy != nullptr ? order.proxy->display() : "direct");
  if (attempt.absolute()) line.add("form", "absolute");
  char address[Endpoint::text_size];
  if (attempt.dialled().address) line.add("address", attempt.dialled().format(address));
  add_times(line, attempt);
  if (!error) line.add("result", "ok");
  else line.add("result", errno_name(errno_of(error))).add("cause", name_of(error.code));
}

void Agent::log_failure(const Asker& asker, const Failure& failure) {
  if (!log_.wants(Level::error)) return;
  const FailureText words = explain_failure(failure);
  LogLine line(log_, Level::error, "connect_failed");
  line.add("program", asker.program()).about(asker.pid).add("target", failure.target);
  line.add("via", failure.proxy != nullptr ? failure.proxy->display() : "direct");
  line.add("errno", errno_name(errno_of(failure.error))).add("cause", name_of(failure.error.code));
  line.add("reason", words.reason);
  if (!words.hint.empty()) line.add("hint", words.hint);
  if (!failure.rule.empty()) line.add("rule", failure.rule);
  if (failure.attempt != nullptr) add_times(line, *failure.attempt);
}

void Agent::add_times(LogLine& line, const Attempt& attempt) const {
  const Attempt::Times& times = attempt.times();
  const auto span = [&](std::string_view key, std::uint64_t from, std::uint64_t to) {
    line.add(key, static_cast<std::int64_t>(to - from));
  };
  const std::uint64_t now = uv_now(loop_);
  const bool tls = attempt.order().proxy != nullptr && attempt.order().proxy->scheme == ProxyScheme::https;
  if (times.connected_ms != 0) span("dial_ms", times.started_ms, times.connected_ms);
  if (tls && times.secured_ms != 0) span("tls_ms", times.connected_ms, times.secured_ms);
  if (times.secured_ms != 0) span("handshake_ms", times.secured_ms, now);
  span("ms", times.started_ms, now);
}

void Agent::watch_log() {
  log_.on_suppressed([this] {
    if (log_watch_) return;
    log_watch_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
    uv_timer_start(
        log_watch_.get(),
        [](uv_timer_t* handle) {
          auto& self = *static_cast<Agent*>(handle->data);
          if (!self.log_.tell_suppressed()) self.log_watch_.reset();
        },
        LogLimit::window_ms, LogLimit::window_ms);
    uv_unref(reinterpret_cast<uv_handle_t*>(log_watch_.get()));
  });
}

// Once per reason: with the library alone every process may be the first of a tree.
void Agent::note_no_net(const Asker& asker, const wire::NoNetAsk& ask) {
  std::string why(trap::explain(static_cast<trap::Step>(ask.step)));
  if (ask.error != 0) why += " (" + std::string(errno_name(ask.error)) + ")";
  if (why == no_net_) return;
  no_net_ = std::move(why);
  LogLine(log_, Level::warning, "net_missing")
      .add("program", asker.program())
      .about(asker.pid)
      .add("reason", no_net_)
      .add("effect",
           "what passes the library by is not led through the proxy: plug-ins that are opened with RTLD_DEEPBIND, "
           "libraries and programs that make system calls themselves")
      .add("hint", "net: require lets nothing start like this, net: off accepts it without this line");
}

std::string Agent::status_text(wire::StatusFormat format) {
  Status out;
  out.version = TOWPATH_VERSION;
  out.mode = kept_.mode;
  out.net = supervisor_.busy()             ? "on"
            : policy_->net == NetMode::off ? "off"
            : no_net_.empty()              ? "none"
                                           : "missing: " + no_net_;
  out.pid = getpid();
  out.uid = geteuid();
  out.program_pid = program_;
  if (program_ != 0) out.program = Asker{program_, 0}.program();
  out.source = policy_->source;
  out.started_unix = stats_.started_unix();
  out.now_unix = std::time(nullptr);
  out.direct = stats_.direct;
  out.tunnel = stats_.tunnel;
  out.refused = stats_.refused;
  out.tunnels_open = tunnels_open_;
  out.relays = relays_.size();
  out.plain_relays = plain_.relays();
  out.dns_questions = dns_.answers().asked();
  out.log_suppressed = log_.suppressed();
  for (const ProxyList* list : policy_->proxy_lists())
    for (const ProxyUrl& proxy : *list) (void)stats_.of(&proxy);  // shown although nothing has gone there yet
  std::unordered_map<const ProxyCounters*, std::uint64_t> running;
  for (const auto& [cookie, attempt] : attempts_)
    if (!attempt->order().native) ++running[&stats_.of(attempt->order().proxy)];
  for (const ProxyCounters& each : stats_.proxies()) out.proxies.push_back({&each, running[&each]});
  for (const ProxyPool::Health& each : proxies_.health(uv_now(loop_))) {
    // The same proxy for two users is one place: as healthy as the better of the two.
    const auto known = std::find_if(out.health.begin(), out.health.end(),
                                    [&](const ProxyHealth& other) { return other.display == each.proxy; });
    const ProxyHealth health{each.proxy, each.healthy, each.failures, each.cause, each.next_trial_ms};
    if (known == out.health.end()) out.health.push_back(health);
    else if (each.healthy) *known = health;
  }
  out.reload = ReloadStatus{reloads_.applied, reloads_.failed, {}};
  if (reloads_.last_at != 0)
    out.reload->last_result = reloads_.last_applied ? "applied" : "refused: " + reloads_.last_problem;
  if (inbound_.on()) out.inbound = &inbound_.counters();
  return render(out, format);
}

// Counting open tunnels asks the kernel for every socket: not more often than once in a second for whoever comes along.
std::string Agent::metrics_text() {
  if (tunnels_counted_ms_ == 0 || uv_now(loop_) - tunnels_counted_ms_ >= 1000) {
    tunnels_open_ = page_.count_tunnels();
    tunnels_counted_ms_ = uv_now(loop_);
  }
  return status_text(wire::StatusFormat::prometheus);
}

void Agent::on_status(Conversation& talk, const wire::StatusAsk& ask) {
  const bool ours = ask.pid == 0 || ask.pid == getpid() || (program_ != 0 && ask.pid == getppid()) ||
                    ask.pid == program_ || askers_.contains(ask.pid);
  if (!ours) return talk.answer(wire::Answer::done, ESRCH);
  tunnels_open_ = page_.count_tunnels();
  tunnels_counted_ms_ = uv_now(loop_);
  const UniqueFd text = sealed(status_text(ask.format));
  wire::Reply reply;
  reply.kind = wire::Answer::done;
  reply.number = text ? 0 : errno;
  talk.answer(reply, text.get());
}

}  // namespace towpath
