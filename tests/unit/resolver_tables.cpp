// resolv.conf, hosts file, learnt names, answer cache.
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/unique_fd.h"
#include "resolver/address_cache.h"
#include "resolver/hosts_file.h"
#include "resolver/known_names.h"
#include "resolver/resolv_conf.h"
#include "tests/unit/scratch.h"

#include <fcntl.h>
#include <sys/stat.h>

using namespace towpath;

namespace {
using Names = std::vector<std::string>;

std::vector<IpAddress> addresses(std::initializer_list<const char*> texts) {
  std::vector<IpAddress> out;
  for (const char* text : texts) out.push_back(IpAddress::parse(text));
  return out;
}
}  // namespace

TEST_CASE("resolv.conf: servers, search list and ndots are read") {
  const auto conf = ResolvConf::parse(
      "# comment\n; another\nnameserver 10.96.0.10\nnameserver\t2001:db8::53 # ours\n"
      "search Default.svc.Cluster.Local svc.cluster.local. cluster.local\r\noptions timeout:1 ndots:5 edns0\n");
  REQUIRE(conf.nameservers.size() == 2);
  CHECK(conf.nameservers[0] == Endpoint{IpAddress::parse("10.96.0.10"), 53});
  CHECK(conf.nameservers[1] == Endpoint{IpAddress::parse("2001:db8::53"), 53});
  CHECK(conf.search == Names{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"});
  CHECK(conf.ndots == 5);
}

TEST_CASE("resolv.conf: an empty file has libc's defaults") {
  const auto conf = ResolvConf::parse("");
  CHECK(conf.nameservers.empty());
  CHECK(conf.search.empty());
  CHECK(conf.ndots == 1);
  CHECK(ResolvConf::parse("", "host.corp.example").search == Names{"corp.example"});
  CHECK(ResolvConf::parse("search a.b", "host.corp.example").search == Names{"a.b"});
  CHECK(ResolvConf::parse("", "host").search.empty());
}

TEST_CASE("resolv.conf: the last of search and domain wins, and an empty one changes nothing") {
  CHECK(ResolvConf::parse("search a b\ndomain c d\n").search == Names{"c"});
  CHECK(ResolvConf::parse("domain c\nsearch a b\n").search == Names{"a", "b"});
  CHECK(ResolvConf::parse("search a b\nsearch\n").search == Names{"a", "b"});
}

TEST_CASE("resolv.conf: odd lines are ignored and numbers are bounded") {
  CHECK(ResolvConf::parse("options ndots:99").ndots == 15);
  CHECK(ResolvConf::parse("options ndots:99999999999999999999").ndots == 15);
  CHECK(ResolvConf::parse("options ndots:-1 ndots: ndots:x").ndots == 1);
  CHECK(ResolvConf::parse("options ndots:0").ndots == 0);
  CHECK(ResolvConf::parse("options ndots:2 ndots:3\noptions ndots:4").ndots == 4);
  CHECK(ResolvConf::parse(" nameserver 10.0.0.1\nnameserver10.0.0.1\nnameserver\nnameserver x\n").nameservers.empty());
  CHECK(ResolvConf::parse("nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n")
            .nameservers.size() == 3);
  std::string many = "search";
  for (int i = 0; i < 100; ++i) many += " d" + std::to_string(i);
  CHECK(ResolvConf::parse(many).search.size() == ResolvConf::most_search);
}

TEST_CASE("expand: the order is glibc's") {
  const auto conf = ResolvConf::parse("search a.x b.x\noptions ndots:2");
  CHECK(expand("host", conf) == Names{"host.a.x", "host.b.x", "host"});
  CHECK(expand("one.dot", conf) == Names{"one.dot.a.x", "one.dot.b.x", "one.dot"});
  CHECK(expand("two.dots.here", conf) == Names{"two.dots.here", "two.dots.here.a.x", "two.dots.here.b.x"});
  CHECK(expand("host.", conf) == Names{"host"});
  CHECK(expand("host", ResolvConf()) == Names{"host"});
  CHECK(expand("", conf).empty());
  CHECK(expand(".", conf).empty());
  CHECK(expand("host", ResolvConf::parse("search a\noptions ndots:0")) == Names{"host", "host.a"});
}

TEST_CASE("expand: the root in the search list stands for the name as it is") {
  CHECK(expand("host", ResolvConf::parse("search . a.x")) == Names{"host", "host.a.x"});
  CHECK(expand("host", ResolvConf::parse("search a.x .")) == Names{"host.a.x", "host"});
  CHECK(expand("a.host", ResolvConf::parse("search . b")) == Names{"a.host", "a.host.b"});
}

TEST_CASE("expand: candidates that no server could be asked are left out") {
  const auto conf = ResolvConf::parse("search example.com");
  CHECK(expand(std::string(250, 'x'), conf) == Names{std::string(250, 'x')});
  CHECK(expand(std::string(254, 'x'), conf).empty());
}

TEST_CASE("resolv.conf: random bytes keep within the bounds") {
  std::mt19937 random(3);
  const char* words[] = {"nameserver ", "search ", "domain ", "options ", "ndots:", "10.0.0.1", "::1",
                         "\n",          "\n",      "a.b",     ".",        " ",      "#"};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (unsigned n = random() % 60; n > 0; --n) {
      if (random() % 3 == 0) text += static_cast<char>(random());
      else text += words[random() % std::size(words)];
    }
    const auto conf = ResolvConf::parse(text, text);
    REQUIRE(conf.nameservers.size() <= 3);
    REQUIRE(conf.search.size() <= ResolvConf::most_search);
    REQUIRE(conf.ndots <= 15);
    for (const auto& name : expand(text.substr(0, 40), conf)) REQUIRE(name.size() <= 253);
  }
}

TEST_CASE("hosts file: names and aliases are found in either case, all lines together") {
  const TempFile file(
      "127.0.0.1\tlocalhost\n10.0.0.1 Db.example.com db # primary\n#10.0.0.9 db\n2001:db8::1 db.example.com\n"
      "10.0.0.2 db\r\nnonsense db\n::ffff:10.0.0.1 db\n10.0.0.3");
  HostsFile hosts(file.path());
  CHECK(hosts.lookup("DB") == addresses({"10.0.0.1", "10.0.0.2"}));
  CHECK(hosts.lookup("db.EXAMPLE.com.") == addresses({"10.0.0.1", "2001:db8::1"}));
  CHECK(hosts.lookup("localhost") == addresses({"127.0.0.1"}));
  CHECK(hosts.lookup("primary").empty());
  CHECK(hosts.lookup("example.com").empty());
  CHECK(hosts.lookup("").empty());
}

TEST_CASE("hosts file: a file that is rewritten, replaced, removed or comes later is noticed") {
  const TempFile file("10.0.0.1 a\n");
  HostsFile hosts(file.path());
  CHECK(hosts.lookup("a") == addresses({"10.0.0.1"}));
  file.write("10.0.0.22 a\n");
  CHECK(hosts.lookup("a") == addresses({"10.0.0.22"}));
  file.replace("10.0.0.33 a\n");
  CHECK(hosts.lookup("a") == addresses({"10.0.0.33"}));
  ::unlink(file.path().c_str());
  CHECK(hosts.lookup("a").empty());
  const UniqueFd fd(::open(file.path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  file.write("10.0.0.4 a\n");
  CHECK(hosts.lookup("a") == addresses({"10.0.0.4"}));
}

TEST_CASE("hosts file: what is no regular file is empty and does not block") {
  CHECK(HostsFile("/nonexistent/hosts").lookup("a").empty());
  CHECK(HostsFile("/tmp").lookup("a").empty());
  CHECK(HostsFile("/dev/zero").lookup("a").empty());
  TempFile file("");
  ::unlink(file.path().c_str());
  REQUIRE(::mkfifo(file.path().c_str(), 0600) == 0);
  CHECK(HostsFile(file.path()).lookup("a").empty());
}

TEST_CASE("hosts file: what is behind ten megabytes is not read") {
  std::string text = "10.0.0.1 early\n";
  while (text.size() < HostsFile::most_bytes - 20) text += "# " + std::string(1000, '-') + "\n";
  text.resize(HostsFile::most_bytes - 8);
  text += "\n10.0.0.2 late\n10.0.0.3 later\n";
  const TempFile file(text);
  HostsFile hosts(file.path());
  CHECK(hosts.lookup("early") == addresses({"10.0.0.1"}));
  CHECK(hosts.lookup("late").empty());
  CHECK(hosts.lookup("later").empty());
}

TEST_CASE("hosts file: random bytes are survived and one name has bounded addresses") {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (unsigned n = random() % 300; n > 0; --n) {
      if (random() % 2 == 0) text += static_cast<char>(random());
      else text += random() % 2 == 0 ? "\n10.0.0.1 " : " a";
    }
    const TempFile file(text);
    CHECK(HostsFile(file.path()).lookup("a").size() <= 1);
  }
  std::string many;
  for (int i = 0; i < 200; ++i) many += "10.0.1." + std::to_string(i) + " a\n";
  const TempFile file(many);
  CHECK(HostsFile(file.path()).lookup("a").size() == HostsFile::most_addresses);
}

TEST_CASE("known names: the newest name of an address wins") {
  KnownNames known;
  const auto both = addresses({"192.0.2.1", "2001:db8::1"});
  known.learn("old.example", both);
  known.learn("new.example", std::span(both).subspan(1));
  CHECK(known.name_of(both[0]) == "old.example");
  CHECK(known.name_of(both[1]) == "new.example");
  CHECK(known.name_of(IpAddress::parse("192.0.2.2")).empty());
  known.learn(known.name_of(both[1]), both);
  CHECK(known.name_of(both[0]) == "new.example");
  CHECK(known.size() == 2);
}

TEST_CASE("known names: the table is bounded and forgets the least recently used") {
  KnownNames known(3);
  const auto four = addresses({"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"});
  known.learn("a", std::span(four).first(3));
  CHECK(known.name_of(four[0]) == "a");
  known.learn("b", std::span(four).last(1));
  CHECK(known.size() == 3);
  CHECK(known.name_of(four[0]) == "a");
  CHECK(known.name_of(four[1]).empty());
  known.learn("", four);
  known.learn(std::string(300, 'x'), four);
  const IpAddress none;
  known.learn("c", {&none, 1});
  CHECK(known.name_of(four[3]) == "b");
  CHECK(known.name_of(none).empty());
}

TEST_CASE("known names: what one table noted down the next one knows") {
  std::vector<std::uint64_t> room(1000);
  const auto all = std::as_writable_bytes(std::span(room));
  const auto both = addresses({"192.0.2.1", "2001:db8::1"});
  {
    KnownNames known;
    known.keep_in(all);
    known.learn("old.example", both);
    known.learn("new.example", std::span(both).first(1));
  }
  for (int times = 0; times < 3; ++times) {
    KnownNames known;
    known.keep_in(all);
    CHECK(known.size() == 2);
    CHECK(known.name_of(both[0]) == "new.example");
    CHECK(known.name_of(both[1]) == "old.example");
  }
}

TEST_CASE("known names: a full room keeps the newest") {
  std::vector<std::uint64_t> room(500);
  const auto all = std::as_writable_bytes(std::span(room));
  const auto address = [](std::uint32_t i) { return IpAddress::v4(0x0a000000 + i); };
  for (std::uint32_t last = 1; last < 400; ++last) {
    KnownNames known;
    known.keep_in(all);
    const IpAddress one = address(last);
    known.learn("name-" + std::to_string(last), {&one, 1});
  }
  KnownNames known;
  known.keep_in(all);
  CHECK(known.size() > 20);
  CHECK(known.size() < 100);
  for (std::uint32_t i = 400 - static_cast<std::uint32_t>(known.size()); i < 400; ++i)
    CHECK(known.name_of(address(i)) == "name-" + std::to_string(i));
}

TEST_CASE("known names: a damaged room is no harm") {
  const auto one = addresses({"192.0.2.1"});
  for (const std::uint8_t byte : {0x00, 0x01, 0x7f, 0xff})
    for (std::size_t at = 0; at < 64; ++at) {
      std::vector<std::uint64_t> room(1000);
      const auto all = std::as_writable_bytes(std::span(room));
      {
        KnownNames known;
        known.keep_in(all);
        known.learn("some.example", one);
        known.learn("other.example", one);
      }
      all[at] = std::byte{byte};
      KnownNames known;
      known.keep_in(all);
      known.learn("third.example", one);
      CHECK(known.name_of(one[0]) == "third.example");
    }
  KnownNames known;
  known.keep_in({});
  known.learn("a", one);
  CHECK(known.name_of(one[0]) == "a");
}

TEST_CASE("address cache: answers end with their TTL, at the latest after 30 seconds") {
  AddressCache cache;
  const auto one = addresses({"192.0.2.1"});
  cache.keep("short", one, 2, 1000);
  cache.keep("long", one, 86400, 1000);
  cache.keep("zero", one, 0, 1000);
  CHECK(cache.find("short", 2999) != nullptr);
  CHECK(cache.find("short", 3000) == nullptr);
  CHECK(cache.find("long", 30'999) != nullptr);
  CHECK(cache.find("long", 31'000) == nullptr);
  CHECK(cache.find("zero", 1000) == nullptr);
}

TEST_CASE("address cache: it is bounded and drops what ends soonest") {
  AddressCache cache;
  const auto one = addresses({"192.0.2.1"});
  cache.keep("first", one, 5, 0);
  for (int i = 0; i < 300; ++i) cache.keep(std::to_string(i), one, 10 + static_cast<unsigned>(i) / 20, 0);
  CHECK(cache.size() == AddressCache::most);
  CHECK(cache.find("first", 0) == nullptr);
  CHECK(cache.find("299", 0) != nullptr);
}
