#include "resolver/synthetic_names.h"

#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

using namespace towpath;

namespace {
constexpr std::uint64_t start = 1'000'000;
constexpr std::uint64_t day = SyntheticNames::reuse_after_seconds;
constexpr std::size_t header_size = 4096, entry_size = 16;

SyntheticNames::Range range(const char* network, unsigned bits) { return {IpAddress::parse(network), bits}; }

SyntheticNames made(SyntheticNames::Range v4) {
  std::string why;
  auto out = SyntheticNames::create(v4, why);
  REQUIRE_MESSAGE(out, why);
  return std::move(*out);
}

UniqueFd same_file(const SyntheticNames& names) { return UniqueFd(::fcntl(names.fd(), F_DUPFD_CLOEXEC, 0)); }

std::string bytes_of(int fd) {
  struct stat status {};
  REQUIRE(::fstat(fd, &status) == 0);
  std::string out(static_cast<std::size_t>(status.st_size), '\0');
  REQUIRE(::pread(fd, out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
  return out;
}

UniqueFd memfd_of(const std::string& bytes, bool sealed = true) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::pwrite(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  if (sealed) REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
  return fd;
}

std::string long_name(int number) {
  std::string out = std::to_string(number) + ".";
  return out + std::string(253 - out.size(), 'x');
}

void put(int fd, std::size_t offset, std::uint64_t word) {
  REQUIRE(::pwrite(fd, &word, sizeof word, static_cast<off_t>(offset)) == sizeof word);
}
}  // namespace

TEST_CASE("synthetic names: a name has one address of each family, and each stands for the name") {
  auto names = made(range("198.18.0.0", 15));
  const auto pair = names.address_of("github.com", start);
  REQUIRE(pair);
  CHECK(pair->v4.in_prefix(IpAddress::parse("198.18.0.0"), 15));
  CHECK(pair->v6.in_prefix(IpAddress::parse("fd74:6f77:7061:7468::"), 64));
  CHECK(names.address_of("github.com", start)->v4 == pair->v4);
  CHECK(names.name_of(pair->v4, start) == "github.com");
  CHECK(names.name_of(pair->v6, start) == "github.com");
  CHECK(names.size() == 1);
  CHECK((names.fd() >= 0 && (::fcntl(names.fd(), F_GETFD) & FD_CLOEXEC) != 0));
}

TEST_CASE("synthetic names: the address is a fixed function of the name") {
  auto names = made(range("198.18.0.0", 15));
  char text[IpAddress::text_size];
  // Changing these breaks what programs remember across an upgrade.
  CHECK(names.address_of("github.com", start)->v4.format(text) == "198.19.90.241");
  CHECK(names.address_of("registry.terraform.io", start)->v4.format(text) == "198.18.38.5");
  CHECK(names.address_of("registry.terraform.io", start)->v6.format(text) == "fd74:6f77:7061:7468::2605");
}

TEST_CASE("synthetic names: what was not handed out stands for nothing but is inside") {
  auto names = made(range("198.18.0.0", 15));
  CHECK(names.contains(IpAddress::parse("198.18.0.0")));
  CHECK(names.contains(IpAddress::parse("198.19.255.255")));
  CHECK(names.contains(IpAddress::parse("fd74:6f77:7061:7468:ffff::1")));
  CHECK_FALSE(names.contains(IpAddress::parse("198.20.0.0")));
  CHECK_FALSE(names.contains(IpAddress::parse("fd74:6f77:7061:7469::1")));
  CHECK_FALSE(names.contains(IpAddress()));
  for (const char* none : {"198.18.0.0", "198.18.0.1", "198.19.255.255", "10.0.0.1",
                           "fd74:6f77:7061:7468::", "fd74:6f77:7061:7468::1", "fd74:6f77:7061:7468:ffff::1", "::1"})
    CHECK_MESSAGE(names.name_of(IpAddress::parse(none), start).empty(), none);
}

TEST_CASE("synthetic names: a small range is used to its last address, without the first and the last") {
  auto names = made(range("10.9.8.7", 28));  // host bits are ignored
  CHECK(names.capacity() == 14);
  std::set<std::uint32_t> seen;
  for (int i = 0; i < 14; ++i) {
    const auto pair = names.address_of("n" + std::to_string(i), start);
    REQUIRE(pair);
    CHECK(pair->v4.in_prefix(IpAddress::parse("10.9.8.0"), 28));
    seen.insert(pair->v4.v4_number() & 15);
  }
  CHECK(seen.size() == 14);
  CHECK_FALSE(seen.contains(0));
  CHECK_FALSE(seen.contains(15));
  for (int i = 0; i < 14; ++i)
    CHECK(names.name_of(names.address_of("n" + std::to_string(i), start)->v4, start) == "n" + std::to_string(i));
}

TEST_CASE("synthetic names: a full table forgets only what was unused for 24 hours, longest unused first") {
  auto names = made(range("10.0.0.0", 30));
  const auto a = names.address_of("a", start), b = names.address_of("b", start + 1);
  CHECK_FALSE(names.address_of("c", start + day - 1));
  CHECK(names.name_of(a->v4, start + day - 1) == "a");  // a use: b is the older one now
  CHECK_FALSE(names.address_of("c", start + day));
  const auto c = names.address_of("c", start + day + 1);
  REQUIRE(c);
  CHECK(c->v4 == b->v4);
  CHECK(names.name_of(b->v4, start + day + 1) == "c");
  CHECK(names.name_of(a->v4, start + day + 1) == "a");
  CHECK(names.size() == 2);
  CHECK_FALSE(names.address_of("b", start + day + 2));
}

TEST_CASE("synthetic names: a full arena forgets old names, and refuses when there are none") {
  auto names = made(range("10.0.0.0", 23));  // 510 addresses, 32640 bytes of text
  int stored = 0;
  while (names.address_of(long_name(stored), start)) ++stored;
  CHECK(stored == 32640 / 253);
  CHECK(names.size() < names.capacity());
  const auto kept = names.address_of(long_name(3), start + day);
  for (int i = 0; i < 20; ++i) CHECK(names.address_of(long_name(1000 + i), start + day));
  CHECK(names.name_of(kept->v4, start + day) == long_name(3));
  for (int i = 0; i < 10; ++i) {
    const auto pair = names.address_of(long_name(1000 + i), start + day);
    REQUIRE(pair);
    CHECK(names.name_of(pair->v6, start + day) == long_name(1000 + i));
  }
}

TEST_CASE("synthetic names: years of replaced names keep the table consistent") {
  auto names = made(range("10.0.0.0", 25));
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t now = start + static_cast<std::uint64_t>(i) * (day / 100);
    const std::string name = (i % 3 == 0 ? long_name(i) : "n" + std::to_string(i));
    const auto pair = names.address_of(name, now);
    REQUIRE(pair);
    REQUIRE(names.name_of(pair->v4, now) == name);
    if (i % 1000 != 0) continue;
    std::string why;
    auto next = SyntheticNames::adopt(same_file(names), range("10.0.0.0", 25), why);
    REQUIRE_MESSAGE(next, why);
    REQUIRE(next->size() == names.size());
    REQUIRE(next->name_of(pair->v4, now) == name);
  }
}

TEST_CASE("synthetic names: names that no adopter would accept are not stored") {
  auto names = made(range("10.0.0.0", 24));
  CHECK_FALSE(names.address_of("", start));
  CHECK_FALSE(names.address_of("Upper.example", start));
  CHECK_FALSE(names.address_of("a b", start));
  CHECK_FALSE(names.address_of("a\xc3\xa4", start));
  CHECK_FALSE(names.address_of(std::string_view("a\0b", 3), start));
  CHECK_FALSE(names.address_of(std::string(254, 'x'), start));
  CHECK(names.address_of(std::string(253, 'x'), start));
}

TEST_CASE("synthetic names: ranges that cannot be are refused with a reason") {
  for (const auto bad : {range("fd00::", 64), range("10.0.0.0", 31), range("10.0.0.0", 7), SyntheticNames::Range{}}) {
    std::string why;
    CHECK_FALSE(SyntheticNames::create(bad, why));
    CHECK_FALSE(why.empty());
  }
  auto large = made(range("10.0.0.0", 8));
  CHECK(large.capacity() == SyntheticNames::most_names);
}

TEST_CASE("synthetic names: a new agent adopts all names, and goes on") {
  auto first = made(range("198.18.0.0", 15));
  std::vector<IpAddress> addresses;
  for (int i = 0; i < 1000; ++i) addresses.push_back(first.address_of("host" + std::to_string(i), start)->v4);
  std::string why;
  auto second = SyntheticNames::adopt(same_file(first), range("198.18.0.0", 15), why);
  REQUIRE_MESSAGE(second, why);
  CHECK(second->size() == 1000);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(second->name_of(addresses[i], start) == "host" + std::to_string(i));
    REQUIRE(second->address_of("host" + std::to_string(i), start)->v4 == addresses[i]);
  }
  CHECK(second->address_of("one.more", start));
  CHECK(second->size() == 1001);
}

TEST_CASE("synthetic names: 10000 names cost about a megabyte of the memfd") {
  auto names = made(range("198.18.0.0", 15));
  for (int i = 0; i < 10'000; ++i)
    REQUIRE(names.address_of("service-" + std::to_string(i) + ".region.example.com", start));
  struct stat status {};
  REQUIRE(::fstat(names.fd(), &status) == 0);
  CHECK(status.st_blocks * 512 < 1024 * 1024);
}

TEST_CASE("synthetic names: another range, a truncated file and a foreign descriptor are refused") {
  auto names = made(range("10.0.0.0", 28));
  REQUIRE(names.address_of("a", start));
  const std::string bytes = bytes_of(names.fd());
  const auto refused = [](UniqueFd fd, SyntheticNames::Range v4) {
    std::string why;
    return !SyntheticNames::adopt(std::move(fd), v4, why) && !why.empty();
  };
  std::string why;
  CHECK(SyntheticNames::adopt(memfd_of(bytes), range("10.0.0.0", 28), why));
  CHECK(refused(memfd_of(bytes), range("10.0.0.16", 28)));
  CHECK(refused(memfd_of(bytes), range("10.0.0.0", 27)));
  CHECK(refused(memfd_of(bytes, false), range("10.0.0.0", 28)));
  for (const std::size_t size : {std::size_t{0}, std::size_t{20}, std::size_t{4096}, bytes.size() - 1})
    CHECK(refused(memfd_of(bytes.substr(0, size)), range("10.0.0.0", 28)));
  CHECK(refused(memfd_of(bytes + "x"), range("10.0.0.0", 28)));
  CHECK(refused(memfd_of(std::string(bytes.size(), '\0')), range("10.0.0.0", 28)));
  CHECK(refused(UniqueFd(), range("10.0.0.0", 28)));
  CHECK(refused(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)), range("10.0.0.0", 28)));
}

TEST_CASE("synthetic names: an entry that was written but not counted is dropped") {
  auto names = made(range("10.0.0.0", 28));
  REQUIRE(names.address_of("a", start));
  put(names.fd(), header_size + entry_size, 0xdeadbeef'00ffff'05u);
  put(names.fd(), header_size + entry_size + 8, ~std::uint64_t{0});
  std::string why;
  auto next = SyntheticNames::adopt(same_file(names), range("10.0.0.0", 28), why);
  REQUIRE_MESSAGE(next, why);
  CHECK(next->size() == 1);
  CHECK(next->address_of("b", start));
}

TEST_CASE("synthetic names: a file that is changed behind our back gives no text outside of it") {
  auto names = made(range("10.0.0.0", 28));
  const auto pair = names.address_of("a.example", start);
  for (const std::uint64_t word : {~std::uint64_t{0}, std::uint64_t{0xffffff05}, std::uint64_t{0x003fff'ff}}) {
    put(names.fd(), header_size, word);
    CHECK(names.name_of(pair->v4, start).empty());
    (void)names.address_of("a.example", start);
  }
}

TEST_CASE("synthetic names: random damage is refused or harmless") {
  constexpr auto network = "10.0.0.0";
  auto names = made(range(network, 26));
  for (int i = 0; i < 90; ++i) (void)names.address_of("host" + std::to_string(i), start + i * day);
  const std::string bytes = bytes_of(names.fd());
  std::mt19937 random(7);
  std::vector<std::size_t> used;  // positions that mean something
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != 0 || i < 48) used.push_back(i);
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = bytes;
    for (unsigned n = random() % 4 + 1; n > 0; --n)
      damaged[random() % 8 != 0 ? used[random() % used.size()] : random() % damaged.size()] =
          static_cast<char>(random());
    std::string why;
    auto table = SyntheticNames::adopt(memfd_of(damaged), range(network, 26), why);
    if (!table) {
      CHECK_FALSE(why.empty());
      continue;
    }
    ++accepted;
    for (std::uint32_t i = 0; i < 64; ++i) {
      const std::string name(table->name_of(IpAddress::v4(0x0a000000 + i), start + 90 * day));
      if (name.size() > 253) FAIL("text of ", name.size());
    }
    for (int i = 0; i < 20; ++i) (void)table->address_of(long_name(i), start + 92 * day);
    REQUIRE(table->size() <= table->capacity());
  }
  CHECK(accepted > 0);
}

TEST_CASE("synthetic names: a writer killed anywhere leaves a table that is adopted") {
  std::mt19937 random(11);
  const auto v4 = range("10.0.0.0", 26);
  for (int round = 0; round < 25; ++round) {
    auto names = made(v4);
    int pipes[2];
    REQUIRE(::pipe(pipes) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      for (int i = 0;; ++i) {
        (void)names.address_of(i % 2 == 0 ? long_name(i) : "n" + std::to_string(i), start + i * (day / 40));
        if (::write(pipes[1], "", 1) != 1) ::_exit(0);
      }
    }
    char buffer[4096];
    for (unsigned left = random() % 3000 + 1; left > 0;) {
      const ssize_t got = ::read(pipes[0], buffer, std::min<std::size_t>(left, sizeof buffer));
      REQUIRE(got > 0);
      left -= static_cast<unsigned>(got);
    }
    ::kill(child, SIGKILL);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    ::close(pipes[0]);
    ::close(pipes[1]);
    std::string why;
    auto next = SyntheticNames::adopt(same_file(names), v4, why);
    REQUIRE_MESSAGE(next, why);
    CHECK(next->size() > 0);
    CHECK(next->address_of("after", start + 1000 * day));
  }
}
