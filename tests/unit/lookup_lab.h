// A name server in a thread and the loop of a test, for the unit tests of resolver/lookup.
#pragma once

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
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

namespace lookup_lab {

using namespace towpath;
using Family = Lookup::Family;

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

inline LookupOptions options_for(const DnsServer& server, const std::string& hosts = "/nonexistent") {
  LookupOptions out;
  out.resolv_conf_path = "/nonexistent";
  out.hosts_path = hosts;
  out.nameservers = {server.endpoint()};
  return out;
}

inline Result resolved(const LookupOptions& options, const std::string& name, Family family = Family::any,
                       bool like_host = false) {
  Loop loop;
  Lookup lookup(&loop.loop, options);
  Result result;
  if (like_host) lookup.resolve_like_host(name, family, result.into());
  else lookup.resolve(name, family, result.into());
  CHECK_FALSE(result.called);
  loop.run(lookup);
  CHECK(result.called);
  CHECK(result.addresses.empty() == (result.error != LookupError::none));
  return result;
}

using Texts = std::vector<std::string>;
}  // namespace lookup_lab
