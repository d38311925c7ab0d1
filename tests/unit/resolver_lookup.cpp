// Lookup against a small DNS server of our own on loopback.
#include "resolver/lookup.h"

#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "base/unique_fd.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

using namespace towpath;
using Family = Lookup::Family;

namespace {
// Answers by the first label of the name asked for:
//   nx, servfail, refused, silent, garbage, short, empty   what they say
//   quiet6 (only A is answered), only4, only6, chain (CNAME), ttl0, big (truncated over UDP)
//   anything else: A 192.0.2.<id> and AAAA 2001:db8::<id>
class DnsServer {
 public:
  explicit DnsServer(std::uint8_t id, const char* address = "127.0.0.1", std::uint16_t port = 0) : id_(id) {
    udp_ = bound(SOCK_DGRAM, address, port);
    tcp_ = bound(SOCK_STREAM, address, port_of(udp_.get()));
    REQUIRE(udp_);
    REQUIRE(tcp_);
    REQUIRE(::listen(tcp_.get(), 16) == 0);
    stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
    thread_ = std::thread([this] { serve(); });
  }
  ~DnsServer() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
    thread_.join();
  }
  Endpoint endpoint() const { return {IpAddress::parse("127.0.0.1"), port()}; }
  std::uint16_t port() const { return port_of(udp_.get()); }
  int asked(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return asked_[name];
  }

 private:
  static UniqueFd bound(int type, const char* address, std::uint16_t port) {
    UniqueFd fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    const int bytes = 1 << 20;  // no question is lost to a full buffer
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    sockaddr_storage where;
    const socklen_t size = Endpoint{IpAddress::parse(address), port}.to(where, AF_INET);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&where), size) != 0) fd.reset();
    return fd;
  }
  static std::uint16_t port_of(int fd) {
    sockaddr_storage where{};
    socklen_t size = sizeof where;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&where), &size);
    return Endpoint::from(reinterpret_cast<sockaddr*>(&where), size).port;
  }

  void serve() {
    while (true) {
      pollfd fds[] = {{udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
      if (::poll(fds, 3, -1) < 0 || fds[2].revents != 0) return;
      if (fds[0].revents != 0) serve_udp();
      if (fds[1].revents != 0) serve_tcp();
    }
  }
  void serve_udp() {
    char buffer[1500];
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    const ssize_t got = ::recvfrom(udp_.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 17) return;
    const std::string reply = answer({buffer, static_cast<std::size_t>(got)}, true);
    if (!reply.empty()) ::sendto(udp_.get(), reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
  }
  void serve_tcp() {
    const UniqueFd peer(::accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const timeval limit{5, 0};
    ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    // Both questions may come over one connection.
    while (true) {
      unsigned char size[2];
      if (::recv(peer.get(), size, 2, MSG_WAITALL) != 2) return;
      std::string query(static_cast<std::size_t>(size[0] * 256 + size[1]), '\0');
      if (::recv(peer.get(), query.data(), query.size(), MSG_WAITALL) != static_cast<ssize_t>(query.size())) return;
      std::string reply = answer(query, false);
      reply.insert(0, {static_cast<char>(reply.size() >> 8), static_cast<char>(reply.size() & 255)});
      ::send(peer.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
    }
  }

  static void put(std::string& out, unsigned value, int bytes) {
    while (bytes-- > 0) out += static_cast<char>(value >> (8 * bytes));
  }
  static void record(std::string& out, unsigned type, unsigned ttl, const std::string& data) {
    put(out, 0xc00c, 2);
    put(out, type, 2);
    put(out, 1, 2);
    put(out, ttl, 4);
    put(out, static_cast<unsigned>(data.size()), 2);
    out += data;
  }

  std::string answer(const std::string& query, bool udp) {
    std::string name;
    std::size_t at = 12;
    while (at < query.size() && query[at] != 0) {
      if (!name.empty()) name += '.';
      name += query.substr(at + 1, static_cast<unsigned char>(query[at]));
      at += 1 + static_cast<unsigned char>(query[at]);
    }
    const std::string question = query.substr(12, at + 5 - 12);
    const bool v4 = query.at(at + 2) == 1;
    {
      const std::lock_guard lock(mutex_);
      ++asked_[name];
    }
    const std::string kind = name.substr(0, name.find('.'));
    if (kind == "silent" || (kind == "quiet6" && !v4)) return {};
    if (kind == "short") return query.substr(0, 5);
    unsigned rcode = 0;
    if (kind == "nx") rcode = 3;
    if (kind == "servfail") rcode = 2;
    if (kind == "refused") rcode = 5;
    const bool truncated = kind == "big" && udp;
    const bool has_data =
        rcode == 0 && !truncated && kind != "empty" && !(kind == "only4" && !v4) && !(kind == "only6" && v4);
    std::string data = v4 ? std::string("\xc0\x00\x02", 3) : std::string("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0", 15);
    data += static_cast<char>(id_);
    std::string out = query.substr(0, 2);
    put(out, 0x8180 | rcode | (truncated ? 0x0200 : 0), 2);
    put(out, 1, 2);
    const unsigned count = kind == "big" ? 40 : 1;
    put(out, has_data ? count + (kind == "chain" ? 1 : 0) : 0, 2);
    put(out, 0, 4);
    out += question;
    if (kind == "garbage") {
      out[7] = 9;  // nine answers, of which none parses
      for (int i = 0; i < 60; ++i) out += static_cast<char>(random_());
      return out;
    }
    if (!has_data) return out;
    const unsigned ttl = kind == "ttl0" ? 0 : 300;
    if (kind == "chain") {
      record(out, 5, 300, std::string("\4real\7example\0", 14));
      const std::size_t record_start = out.size();
      record(out, v4 ? 1 : 28, ttl, data);
      out.replace(record_start, 2, std::string("\4real\7example\0", 14));
      return out;
    }
    for (unsigned i = 0; i < count; ++i) {
      if (kind == "big") data.back() = static_cast<char>(i + 1);
      record(out, v4 ? 1 : 28, ttl, data);
    }
    return out;
  }

  std::uint8_t id_;
  UniqueFd udp_, tcp_, stop_;
  std::mt19937 random_{1};
  std::mutex mutex_;
  std::map<std::string, int> asked_;
  std::thread thread_;
};

class File {
 public:
  explicit File(const std::string& text) {
    char name[] = "/tmp/towpath-test-XXXXXX";
    const UniqueFd fd(::mkostemp(name, O_CLOEXEC));
    path = name;
    REQUIRE(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  ~File() { ::unlink(path.c_str()); }
  void replace(const std::string& text) const {
    const File other(text);
    REQUIRE(::rename(other.path.c_str(), path.c_str()) == 0);
  }
  std::string path;
};

struct Result {
  bool called = false;
  std::vector<std::string> addresses;
  LookupError error = LookupError::none;
  Lookup::Callback into() {
    return [this](std::vector<IpAddress> found, LookupError why) {
      CHECK_FALSE(called);
      called = true;
      error = why;
      char text[IpAddress::text_size];
      for (const auto& address : found) addresses.emplace_back(address.format(text));
    };
  }
};

class Loop {
 public:
  Loop() { uv_loop_init(&loop); }
  ~Loop() {
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);  // everything was closed
  }
  // Until the lookup has answered everything.
  void run(const Lookup& lookup) {
    while (lookup.pending() > 0) uv_run(&loop, UV_RUN_ONCE);
  }
  uv_loop_t loop;
};

LookupOptions options_for(const DnsServer& server, const std::string& hosts = "/nonexistent") {
  LookupOptions out;
  out.resolv_conf_path = "/nonexistent";
  out.hosts_path = hosts;
  out.nameservers = {server.endpoint()};
  return out;
}

Result resolved(const LookupOptions& options, const std::string& name, Family family = Family::any,
                bool like_host = false) {
  Loop loop;
  Lookup lookup(&loop.loop, options);
  Result result;
  if (like_host)
    lookup.resolve_like_host(name, family, result.into());
  else
    lookup.resolve(name, family, result.into());
  CHECK_FALSE(result.called);
  loop.run(lookup);
  CHECK(result.called);
  CHECK(result.addresses.empty() == (result.error != LookupError::none));
  return result;
}

using Texts = std::vector<std::string>;
}  // namespace

TEST_CASE("lookup: IPv4 comes first, and a wanted family alone") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "host.example").addresses == Texts{"192.0.2.1", "2001:db8::1"});
  CHECK(resolved(options_for(server), "Host.Example.", Family::v4).addresses == Texts{"192.0.2.1"});
  CHECK(resolved(options_for(server), "host.example", Family::v6).addresses == Texts{"2001:db8::1"});
  CHECK(resolved(options_for(server), "only4.example").addresses == Texts{"192.0.2.1"});
  CHECK(resolved(options_for(server), "only6.example").addresses == Texts{"2001:db8::1"});
  CHECK(resolved(options_for(server), "only6.example", Family::v4).error == LookupError::not_found);
  CHECK(resolved(options_for(server), "chain.example").addresses == Texts{"192.0.2.1", "2001:db8::1"});
}

TEST_CASE("lookup: an answer that does not fit comes over TCP") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "big.example").addresses.size() == 80);
}

TEST_CASE("lookup: failures say what kind they are") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "nx.example").error == LookupError::not_found);
  CHECK(resolved(options_for(server), "empty.example").error == LookupError::not_found);
  CHECK(resolved(options_for(server), "servfail.example").error == LookupError::refused);
  CHECK(resolved(options_for(server), "refused.example").error == LookupError::refused);
  CHECK(resolved(options_for(server), "garbage.example").error == LookupError::refused);
  for (const std::string& bad :
       {std::string(), std::string("."), std::string("a b.example"), std::string("a..b"), std::string("a\\.b"),
        std::string("a\0b", 3), std::string(64, 'x') + ".example", std::string(300, 'x')})
    CHECK_MESSAGE(resolved(options_for(server), bad).error == LookupError::bad_name, bad);
  CHECK(text_of(LookupError::refused).find("refuse") != std::string_view::npos);
}

TEST_CASE("lookup: silence and unusable packets end at the deadline") {
  DnsServer server(1);
  auto options = options_for(server);
  options.total = std::chrono::milliseconds(60);
  CHECK(resolved(options, "silent.example").error == LookupError::no_answer);
  CHECK(resolved(options, "short.example").error == LookupError::no_answer);
}

TEST_CASE("lookup: one silent family does not hold back the other") {
  DnsServer server(1);
  CHECK(resolved(options_for(server), "quiet6.example").addresses == Texts{"192.0.2.1"});
  auto options = options_for(server);
  options.total = std::chrono::milliseconds(250);  // ends before the grace period does
  const auto result = resolved(options, "quiet6.example");
  CHECK((result.addresses == Texts{"192.0.2.1"} || result.error == LookupError::no_answer));
}

TEST_CASE("lookup: no server at all is a refusal") {
  LookupOptions options;
  {
    const DnsServer gone(1);
    options = options_for(gone);
  }
  CHECK(resolved(options, "host.example").error == LookupError::refused);
}

TEST_CASE("lookup: a second server is asked when the first is gone") {
  DnsServer server(1);
  auto options = options_for(server);
  {
    const DnsServer gone(2);
    options.nameservers.insert(options.nameservers.begin(), gone.endpoint());
  }
  Loop loop;
  Lookup lookup(&loop.loop, options);
  std::vector<Result> results(30);
  for (std::size_t i = 0; i < results.size(); ++i)
    lookup.resolve("host.n" + std::to_string(i), Family::any, results[i].into());
  loop.run(lookup);
  for (const auto& result : results) REQUIRE(result.addresses == Texts{"192.0.2.1", "2001:db8::1"});
}

TEST_CASE("lookup: numbers, the hosts file and localhost need no server") {
  DnsServer server(1);
  const File hosts("2001:db8::7 db\n10.0.0.7 db\n10.0.0.8 here.localhost\n");
  const auto options = options_for(server, hosts.path);
  CHECK(resolved(options, "192.0.2.77").addresses == Texts{"192.0.2.77"});
  CHECK(resolved(options, "::1").addresses == Texts{"::1"});
  CHECK(resolved(options, "::1", Family::v4).error == LookupError::not_found);
  CHECK(resolved(options, "DB").addresses == Texts{"10.0.0.7", "2001:db8::7"});
  CHECK(resolved(options, "localhost").addresses == Texts{"127.0.0.1", "::1"});
  CHECK(resolved(options, "app.localhost.", Family::v6).addresses == Texts{"::1"});
  CHECK(resolved(options, "here.localhost").addresses == Texts{"10.0.0.8"});
  CHECK(resolved(options, "db", Family::v6).addresses == Texts{"2001:db8::7"});
  CHECK(server.asked("db") == 0);
}

TEST_CASE("lookup: like the host, search domains are tried in order") {
  DnsServer server(1);
  const File conf("nameserver 127.0.0.1\nsearch one.example two.example\n");
  LookupOptions options;
  options.resolv_conf_path = conf.path;
  options.hosts_path = "/nonexistent";
  options.nameserver_port = server.port();
  CHECK(resolved(options, "proxy", Family::any, true).addresses == Texts{"192.0.2.1", "2001:db8::1"});
  CHECK(server.asked("proxy.one.example") == 2);
  CHECK(server.asked("proxy.two.example") == 0);
  CHECK(resolved(options, "nx", Family::any, true).error == LookupError::not_found);
  CHECK(server.asked("nx.one.example") == 2);
  CHECK(server.asked("nx.two.example") == 2);
  CHECK(server.asked("nx") == 2);
  CHECK(resolved(options, "servfail", Family::v4, true).error == LookupError::refused);
  CHECK(server.asked("servfail") > 0);
  CHECK(resolved(options, "proxy.", Family::any, true).error == LookupError::none);
  CHECK(server.asked("proxy") == 2);
  CHECK(resolved(options, "alone").error == LookupError::none);
  CHECK(server.asked("alone.one.example") == 0);
}

TEST_CASE("lookup: an answer is kept, unless its TTL forbids") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  for (int i = 0; i < 3; ++i) {
    for (const char* name : {"host.example", "ttl0.example", "nx.example"}) {
      Result result;
      lookup.resolve(name, Family::v4, result.into());
      loop.run(lookup);
    }
  }
  CHECK(server.asked("host.example") == 1);
  CHECK(server.asked("ttl0.example") == 3);
  CHECK(server.asked("nx.example") == 3);
}

TEST_CASE("lookup: equal lookups at the same time share one question") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  std::vector<Result> results(50);
  for (auto& result : results) lookup.resolve("ttl0.example", Family::v4, result.into());
  loop.run(lookup);
  for (auto& result : results) REQUIRE(result.addresses == Texts{"192.0.2.1"});
  CHECK(server.asked("ttl0.example") == 1);
}

TEST_CASE("lookup: two hundred at once are all answered") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  std::vector<Result> results(200);
  std::set<Lookup::Ticket> tickets;
  for (std::size_t i = 0; i < results.size(); ++i)
    tickets.insert(
        lookup.resolve((i % 10 == 0 ? "nx.h" : "host.h") + std::to_string(i), Family::any, results[i].into()));
  CHECK(tickets.size() == 200);
  CHECK(lookup.pending() == 200);
  loop.run(lookup);
  for (std::size_t i = 0; i < results.size(); ++i)
    REQUIRE(results[i].error == (i % 10 == 0 ? LookupError::not_found : LookupError::none));
}

TEST_CASE("lookup: too many at once are refused and not queued") {
  DnsServer server(1);
  auto options = options_for(server);
  options.total = std::chrono::milliseconds(50);
  Loop loop;
  Lookup lookup(&loop.loop, options);
  int busy = 0, over = 0;
  for (int i = 0; i < 8300; ++i)
    lookup.resolve("silent.example", Family::v4, [&](auto, LookupError error) {
      ++over;
      if (error == LookupError::busy) ++busy;
    });
  loop.run(lookup);
  CHECK(over == 8300);
  CHECK(busy == 8300 - 8192);
}

TEST_CASE("lookup: a replaced resolv.conf is noticed, one without servers is not taken") {
  DnsServer first(1);
  const DnsServer second(2, "127.0.0.2", first.port());
  const File conf("nameserver 127.0.0.1\n");
  LookupOptions options;
  options.resolv_conf_path = conf.path;
  options.hosts_path = "/nonexistent";
  options.nameserver_port = first.port();
  Loop loop;
  Lookup lookup(&loop.loop, options);
  Result before, waiting, after, emptied;
  lookup.resolve("host.example", Family::v4, before.into());
  loop.run(lookup);
  CHECK(before.addresses == Texts{"192.0.2.1"});
  lookup.resolve("other.example", Family::v4, waiting.into());
  conf.replace("nameserver 127.0.0.2\nsearch new.example\n");
  CHECK(lookup.resolv_conf().search == Texts{"new.example"});
  lookup.resolve("host.example", Family::v4, after.into());
  loop.run(lookup);
  CHECK(waiting.addresses == Texts{"192.0.2.1"});
  CHECK(after.addresses == Texts{"192.0.2.2"});
  conf.replace("");
  lookup.resolve("third.example", Family::v4, emptied.into());
  loop.run(lookup);
  CHECK(emptied.addresses == Texts{"192.0.2.2"});
  CHECK(lookup.resolv_conf().search == Texts{"new.example"});
}

TEST_CASE("lookup: what was cancelled is not called, the others are") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  Result first, second, third, fourth;
  const auto asked = lookup.resolve("host.example", Family::v4, first.into());
  lookup.resolve("host.example", Family::v4, second.into());
  const auto instant = lookup.resolve("192.0.2.9", Family::v4, third.into());
  lookup.cancel(asked);
  lookup.cancel(instant);
  lookup.cancel(asked);
  lookup.cancel(0);
  lookup.cancel(12345);
  // One callback cancels another that is due in the same moment.
  Lookup::Ticket last = 0;
  lookup.resolve("192.0.2.10", Family::v4, [&](auto, auto) { lookup.cancel(last); });
  last = lookup.resolve("192.0.2.11", Family::v4, fourth.into());
  loop.run(lookup);
  CHECK_FALSE(first.called);
  CHECK(second.addresses == Texts{"192.0.2.1"});
  CHECK_FALSE(third.called);
  CHECK_FALSE(fourth.called);
}

TEST_CASE("lookup: a cancelled callback is destroyed at once") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  const auto held = std::make_shared<int>();
  const auto ticket = lookup.resolve("silent.example", Family::v4, [held](auto, auto) {});
  CHECK(held.use_count() == 2);
  lookup.cancel(ticket);
  CHECK(held.use_count() == 1);
}

TEST_CASE("lookup: close with questions in flight drains the loop and calls nobody") {
  DnsServer server(1);
  Loop loop;
  Result results[40];
  const auto held = std::make_shared<int>();
  {
    Lookup lookup(&loop.loop, options_for(server));
    for (int i = 0; i < 40; ++i) lookup.resolve("silent.n" + std::to_string(i / 2), Family::any, results[i].into());
    lookup.resolve("big.example", Family::any, [held](auto, auto) { FAIL("called"); });
    for (int i = 0; i < 3; ++i) uv_run(&loop.loop, UV_RUN_NOWAIT);
    lookup.resolve("192.0.2.1", Family::any, [held](auto, auto) { FAIL("called"); });
    lookup.close();
    CHECK(lookup.resolve("host.example", Family::any, [held](auto, auto) { FAIL("called"); }) == 0);
    CHECK(lookup.pending() == 0);
    lookup.close();
    CHECK(lookup.resolv_conf().nameservers.empty());
  }
  CHECK(uv_run(&loop.loop, UV_RUN_DEFAULT) == 0);
  CHECK(held.use_count() == 1);
  for (const auto& result : results) CHECK_FALSE(result.called);
}

TEST_CASE("lookup: a callback may destroy the lookup, and start another one") {
  DnsServer server(1);
  Loop loop;
  auto lookup = std::make_unique<Lookup>(&loop.loop, options_for(server));
  Result never;
  bool called = false;
  lookup->resolve("host.example", Family::v4, [&](auto, auto) {
    lookup->resolve("next.example", Family::v4, [&](auto, auto) {
      called = true;
      lookup.reset();
    });
    lookup->resolve("next.example", Family::v4, never.into());
  });
  uv_run(&loop.loop, UV_RUN_DEFAULT);
  CHECK(called);
  CHECK_FALSE(never.called);
}

TEST_CASE("lookup: an idle lookup has no open socket") {
  DnsServer server(1);
  Loop loop;
  Lookup lookup(&loop.loop, options_for(server));
  Result result;
  lookup.resolve("host.example", Family::any, result.into());
  CHECK(uv_run(&loop.loop, UV_RUN_DEFAULT) == 0);  // ends although nothing was closed
  CHECK(result.called);
}

TEST_CASE("lookup: the environment has no say") {
  DnsServer server(1);
  ::setenv("RES_OPTIONS", "ndots:9 retry:9 rotate", 1);
  ::setenv("LOCALDOMAIN", "wrong.example", 1);
  ::setenv("HOSTALIASES", "/dev/zero", 1);
  CHECK(resolved(options_for(server), "plain", Family::v4).addresses == Texts{"192.0.2.1"});
  CHECK(server.asked("plain") == 1);
  CHECK(server.asked("plain.wrong.example") == 0);
  for (const char* name : {"RES_OPTIONS", "LOCALDOMAIN", "HOSTALIASES"}) ::unsetenv(name);
}
