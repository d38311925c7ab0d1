#include "agent/status_text.h"

#include <algorithm>
#include <cstdio>

#include "agent/inbound.h"
#include "agent/log.h"
#include "config/explain.h"

namespace towpath {

namespace {

struct InboundName {
  std::string_view name, help;
  std::uint64_t InboundCounters::*count;
};
constexpr InboundName inbound_names[] = {
    {"held", "Accepted connections that the agent had to look after.", &InboundCounters::held},
    {"surfaced", "Of these, handed to the program.", &InboundCounters::surfaced},
    {"malformed", "Closed: no PROXY header, or a bad one.", &InboundCounters::malformed},
    {"timed_out", "Closed: said nothing in time, or had to make room.", &InboundCounters::timed_out},
    {"gone", "The client or the listener left first.", &InboundCounters::gone},
    {"requests", "HTTP requests passed on.", &InboundCounters::requests},
    {"not_http", "Answered with 400: no strict HTTP/1.", &InboundCounters::not_http},
    {"tls", "Handed over untouched: TLS where HTTP was expected.", &InboundCounters::tls},
    {"upgraded", "Became a stream of bytes (WebSocket).", &InboundCounters::upgraded}};

std::string number(std::uint64_t value) { return std::to_string(value); }

// Milliseconds in seconds, exactly.
std::string seconds(std::uint64_t ms) {
  char text[40];
  std::snprintf(text, sizeof text, "%llu.%03u", static_cast<unsigned long long>(ms / 1000),
                static_cast<unsigned>(ms % 1000));
  std::string out = text;
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out;
}

template <class See>
void each_failure(const ProxyCounters& proxy, See see) {
  for (std::size_t i = 0; i < proxy.failures.size(); ++i)
    if (proxy.failures[i] != 0) see(name_of(static_cast<Err>(i)), proxy.failures[i]);
}

// ---- for people

std::string duration(std::int64_t left) {
  left = std::max<std::int64_t>(left, 0);
  const auto days = left / 86400, hours = left / 3600 % 24, minutes = left / 60 % 60;
  if (days > 0) return std::to_string(days) + "d " + std::to_string(hours) + "h";
  if (hours > 0) return std::to_string(hours) + "h " + std::to_string(minutes) + "m";
  if (minutes > 0) return std::to_string(minutes) + "m " + std::to_string(left % 60) + "s";
  return std::to_string(left) + "s";
}

// Names in a column of their own.
class Block {
 public:
  explicit Block(std::string title) : text_(std::move(title) + "\n") {}
  void row(std::string_view name, const std::string& value) {
    text_ += "  ";
    text_ += name;
    text_.append(name.size() < width ? width - name.size() : 1, ' ');
    text_ += value + "\n";
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  static constexpr std::size_t width = 14;
  std::string text_;
};

std::string text_of_proxy(const ProxyStatus& proxy) {
  const ProxyCounters& counters = *proxy.counters;
  std::string out = number(counters.opened) + " tunnels opened, " + number(proxy.attempts) + " in progress";
  if (counters.absolute != 0) out += ", " + number(counters.absolute) + " plain HTTP";
  if (counters.fallbacks != 0) out += " (" + number(counters.fallbacks) + " after a refused tunnel)";
  if (counters.handshake.count() != 0) {
    out += "; took " + number(counters.handshake.sum_ms() / counters.handshake.count()) + " ms on average";
    const std::uint32_t most = counters.handshake.bound_of(0.95);
    out += most != 0 ? ", 95% within " + number(most) + " ms" : ", 5% longer than 30 s";
  }
  return out;
}

std::string text_of_failures(const ProxyCounters& counters) {
  std::string out;
  each_failure(counters, [&](std::string_view cause, std::uint64_t count) {
    out += (out.empty() ? "" : ", ") + number(count) + " " + std::string(cause);
  });
  return out;
}

std::string as_text(const Status& s) {
  Block out("agent " + std::to_string(s.pid) + "  towpath " + s.version + ", " + s.mode + ", user " +
            std::to_string(s.uid) + ", up " + duration(s.now_unix - s.started_unix));
  if (s.program_pid != 0) out.row("program", s.program + " (pid " + std::to_string(s.program_pid) + ")");
  out.row("configuration", s.source);
  out.row("net", s.net);
  if (s.reload && s.reload->done + s.reload->failed != 0) {
    std::string reloads = number(s.reload->done) + " reloads, " + number(s.reload->failed) + " failed";
    if (!s.reload->last_result.empty()) reloads += "; the last: " + s.reload->last_result;
    out.row("", reloads);
  }
  out.row("connects", number(s.tunnel) + " to a proxy, " + number(s.direct) + " direct, " + number(s.refused) +
                          " refused by towpath");
  out.row("open now", number(s.tunnels_open) + " tunnels; carried by the agent: " + number(s.relays) + " streams, " +
                          number(s.plain_relays) + " plain HTTP");
  for (const ProxyStatus& proxy : s.proxies) {
    const std::string failures = text_of_failures(*proxy.counters);
    const bool direct = &proxy == &s.proxies.front();
    if (direct && failures.empty()) continue;
    out.row(direct ? "direct" : "proxy", direct ? "failed: " + failures : proxy.counters->display);
    if (direct) continue;
    out.row("", "  " + text_of_proxy(proxy));
    if (!failures.empty()) out.row("", "  failed: " + failures);
  }
  for (const ProxyHealth& each : s.health)
    out.row("health",
            each.display + (each.healthy ? ": healthy"
                                         : ": out of use after " + number(each.failures) + " failures (" +
                                               each.last_cause + "), tried again in " + seconds(each.retry_ms) + " s"));
  out.row("dns", number(s.dns_questions) + " questions");
  if (s.inbound != nullptr) {
    std::string text;
    for (const InboundName& each : inbound_names)
      text += (text.empty() ? "" : ", ") + number(s.inbound->*each.count) + " " + std::string(each.name);
    out.row("inbound", text);
  }
  if (s.log_suppressed != 0) out.row("log", number(s.log_suppressed) + " repeated lines left out");
  return out.take();
}

// ---- JSON

class JsonObject {
 public:
  JsonObject& raw(std::string_view key, const std::string& value) {
    text_ += (text_.empty() ? "{" : ",") + json_text(key) + ":" + value;
    return *this;
  }
  JsonObject& add(std::string_view key, std::uint64_t value) { return raw(key, number(value)); }
  JsonObject& add(std::string_view key, std::string_view value) { return raw(key, json_text(value)); }
  [[nodiscard]] std::string take() { return text_.empty() ? "{}" : text_ + "}"; }

 private:
  std::string text_;
};

std::string json_list(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& each : items) out += (out.size() > 1 ? "," : "") + each;
  return out + "]";
}

std::string json_failures(const ProxyCounters& counters) {
  JsonObject out;
  each_failure(counters, [&](std::string_view cause, std::uint64_t count) { out.add(cause, count); });
  return out.take();
}

std::string json_histogram(const LatencyHistogram& histogram) {
  JsonObject buckets;
  for (std::size_t i = 0; i < histogram.bounds_ms.size(); ++i)
    buckets.add(number(histogram.bounds_ms[i]), histogram.up_to(i));
  return JsonObject()
      .add("count", histogram.count())
      .add("sum_ms", histogram.sum_ms())
      .raw("up_to_ms", buckets.take())
      .take();
}

std::string as_json(const Status& s) {
  std::vector<std::string> proxies, health;
  for (const ProxyStatus& proxy : s.proxies) {
    if (&proxy == &s.proxies.front()) continue;
    proxies.push_back(JsonObject()
                          .add("proxy", proxy.counters->display)
                          .add("opened", proxy.counters->opened)
                          .add("in_progress", proxy.attempts)
                          .add("plain_http", proxy.counters->absolute)
                          .add("fallbacks", proxy.counters->fallbacks)
                          .raw("failures", json_failures(*proxy.counters))
                          .raw("handshake", json_histogram(proxy.counters->handshake))
                          .take());
  }
  for (const ProxyHealth& each : s.health)
    health.push_back(JsonObject()
                         .add("proxy", each.display)
                         .raw("healthy", each.healthy ? "true" : "false")
                         .add("failures", each.failures)
                         .add("last_cause", each.last_cause)
                         .add("retry_ms", each.retry_ms)
                         .take());
  JsonObject out;
  out.add("version", s.version).add("mode", s.mode).add("net", s.net);
  out.add("pid", static_cast<std::uint64_t>(s.pid)).add("uid", std::uint64_t{s.uid});
  if (s.program_pid != 0)
    out.raw("program",
            JsonObject().add("name", s.program).add("pid", static_cast<std::uint64_t>(s.program_pid)).take());
  out.add("configuration", s.source).add("started", utc_text(s.started_unix * 1000));
  out.add("uptime_seconds", static_cast<std::uint64_t>(std::max<std::int64_t>(s.now_unix - s.started_unix, 0)));
  if (s.reload)
    out.raw("reload", JsonObject()
                          .add("done", s.reload->done)
                          .add("failed", s.reload->failed)
                          .add("last_result", s.reload->last_result)
                          .take());
  out.raw("connects", JsonObject().add("tunnel", s.tunnel).add("direct", s.direct).add("refused", s.refused).take());
  out.add("tunnels_open", s.tunnels_open);
  out.raw("relays", JsonObject().add("stream", s.relays).add("plain_http", s.plain_relays).take());
  out.raw("proxies", json_list(proxies));
  if (!s.proxies.empty()) out.raw("direct_failures", json_failures(*s.proxies.front().counters));
  if (!health.empty()) out.raw("health", json_list(health));
  out.add("dns_questions", s.dns_questions);
  if (s.inbound != nullptr) {
    JsonObject inbound;
    for (const InboundName& each : inbound_names) inbound.add(each.name, s.inbound->*each.count);
    out.raw("inbound", inbound.take());
  }
  out.add("log_lines_suppressed", s.log_suppressed);
  return out.take() + "\n";
}

// ---- Prometheus

std::string label(std::string_view name, std::string_view value) {
  std::string out(name);
  out += "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') out += "\\n";
    else out += c;
  }
  return out + "\"";
}

class Exposition {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = "towpath_";
    name_ += name;
    text_ += "# HELP " + name_ + " " + std::string(help) + "\n# TYPE " + name_ + " " + std::string(type) + "\n";
  }
  void sample(const std::string& labels, const std::string& value, std::string_view suffix = {}) {
    text_ += name_ + std::string(suffix);
    if (!labels.empty()) text_ += "{" + labels + "}";
    text_ += " " + value + "\n";
  }
  void one(std::string_view name, std::string_view type, std::string_view help, std::uint64_t value) {
    family(name, type, help);
    sample({}, number(value));
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string name_, text_;
};

void histograms(Exposition& out, const Status& s) {
  out.family("handshake_seconds", "histogram",
             "From the program's connect to the open tunnel: dialling, TLS and the proxy's answer.");
  for (const ProxyStatus& proxy : s.proxies) {
    if (&proxy == &s.proxies.front()) continue;
    const std::string of = label("proxy", proxy.counters->display);
    const LatencyHistogram& seen = proxy.counters->handshake;
    for (std::size_t i = 0; i < seen.bounds_ms.size(); ++i)
      out.sample(of + "," + label("le", seconds(seen.bounds_ms[i])), number(seen.up_to(i)), "_bucket");
    out.sample(of + "," + label("le", "+Inf"), number(seen.count()), "_bucket");
    out.sample(of, seconds(seen.sum_ms()), "_sum");
    out.sample(of, number(seen.count()), "_count");
  }
}

std::string as_prometheus(const Status& s) {
  Exposition out;
  const auto per_proxy = [&](std::string_view name, std::string_view type, std::string_view help, auto value) {
    out.family(name, type, help);
    for (const ProxyStatus& proxy : s.proxies)
      if (&proxy != &s.proxies.front()) out.sample(label("proxy", proxy.counters->display), number(value(proxy)));
  };
  out.family("build_info", "gauge", "1, for the version in the label.");
  out.sample(label("version", s.version), "1");
  out.one("agent_start_time_seconds", "gauge", "When this agent began to count, in Unix time.",
          static_cast<std::uint64_t>(s.started_unix));
  out.family("connects_total", "counter", "Decisions about connects of programs.");
  out.sample(label("route", "tunnel"), number(s.tunnel));
  out.sample(label("route", "direct"), number(s.direct));
  out.sample(label("route", "refused"), number(s.refused));
  per_proxy("tunnels_opened_total", "counter", "Tunnels that the proxy granted.",
            [](const ProxyStatus& proxy) { return proxy.counters->opened; });
  per_proxy("plain_http_connections_total", "counter", "Connections to port 80 that ask the proxy per request.",
            [](const ProxyStatus& proxy) { return proxy.counters->absolute; });
  per_proxy("plain_http_fallbacks_total", "counter", "Refusals of CONNECT that led to a plain HTTP connection.",
            [](const ProxyStatus& proxy) { return proxy.counters->fallbacks; });
  out.family("connect_failures_total", "counter", "Failed connects by cause; proxy=\"direct\": without a proxy.");
  for (const ProxyStatus& proxy : s.proxies)
    each_failure(*proxy.counters, [&](std::string_view cause, std::uint64_t count) {
      out.sample(label("proxy", proxy.counters->display) + "," + label("cause", cause), number(count));
    });
  per_proxy("attempts_in_progress", "gauge", "Connects that wait for the proxy now.",
            [](const ProxyStatus& proxy) { return proxy.attempts; });
  histograms(out, s);
  out.one("tunnels_open", "gauge", "Tunnels that some process has open now, of earlier agents too.", s.tunnels_open);
  out.family("relays_open", "gauge", "Connections whose bytes pass the agent now.");
  out.sample(label("kind", "stream"), number(s.relays));
  out.sample(label("kind", "plain_http"), number(s.plain_relays));
  if (!s.health.empty()) {
    out.family("proxy_healthy", "gauge", "1: in use; 0: left out until it is tried again.");
    for (const ProxyHealth& each : s.health) out.sample(label("proxy", each.display), each.healthy ? "1" : "0");
  }
  if (s.reload) {
    out.family("config_reloads_total", "counter", "Reloads of the configuration.");
    out.sample(label("result", "ok"), number(s.reload->done));
    out.sample(label("result", "failed"), number(s.reload->failed));
  }
  out.one("dns_questions_total", "counter", "Questions of programs' own resolvers.", s.dns_questions);
  if (s.inbound != nullptr)
    for (const InboundName& each : inbound_names)
      out.one("inbound_" + std::string(each.name) + "_total", "counter", each.help, s.inbound->*each.count);
  out.one("log_lines_suppressed_total", "counter", "Repeated log lines that were left out.", s.log_suppressed);
  return out.take();
}

}  // namespace

std::string render(const Status& status, wire::StatusFormat format) {
  switch (format) {
    case wire::StatusFormat::text: return as_text(status);
    case wire::StatusFormat::json: return as_json(status);
    case wire::StatusFormat::prometheus: break;
  }
  return as_prometheus(status);
}

}  // namespace towpath
