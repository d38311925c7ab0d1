#include "base/endpoint.h"
#include <string>

#include <doctest/doctest.h>

#include <netinet/in.h>

using namespace towpath;

static std::string text(const Endpoint& e) {
  char buffer[Endpoint::text_size];
  return std::string(e.format(buffer));
}

TEST_CASE("address: text forms parse strictly and print canonically") {
  char buffer[IpAddress::text_size];
  CHECK(IpAddress::parse("10.1.2.3").format(buffer) == "10.1.2.3");
  CHECK(IpAddress::parse("::FFFF:10.1.2.3").is_v4());
  CHECK(IpAddress::parse("2001:DB8::1").format(buffer) == "2001:db8::1");
  CHECK(IpAddress::parse("fe80::1%eth0").is_link_local());
  for (const char* bad :
       {"", "1", "127.1", "010.1.1.1", "1.2.3.4.5", "1.2.3.256", "1.2.3.4%lo", "[::1]", "::1::", "a.b"})
    CHECK_MESSAGE(!IpAddress::parse(bad), bad);
}

TEST_CASE("address: prefixes compare whole bytes and the rest of the bits") {
  const auto base = IpAddress::parse("10.1.2.0");
  CHECK(IpAddress::parse("10.1.2.255").in_prefix(base, 24));
  CHECK(IpAddress::parse("10.1.2.127").in_prefix(base, 25));
  CHECK_FALSE(IpAddress::parse("10.1.2.128").in_prefix(base, 25));
  CHECK(IpAddress::parse("203.0.113.9").in_prefix(IpAddress::v4(0), 0));
  CHECK_FALSE(IpAddress::parse("::1").in_prefix(IpAddress::v4(0), 0));
  CHECK_FALSE(IpAddress::parse("10.1.2.0").in_prefix(base, 33));
}

TEST_CASE("endpoint: a v4 address fits both domains, a v6 address only its own") {
  const Endpoint v4{IpAddress::parse("192.0.2.1"), 80}, v6{IpAddress::parse("2001:db8::1"), 443};
  sockaddr_storage out;
  CHECK(v4.to(out, AF_INET) == sizeof(sockaddr_in));
  CHECK(Endpoint::from(reinterpret_cast<sockaddr*>(&out), sizeof(sockaddr_in)) == v4);
  CHECK(v4.to(out, AF_INET6) == sizeof(sockaddr_in6));
  CHECK(Endpoint::from(reinterpret_cast<sockaddr*>(&out), sizeof(sockaddr_in6)) == v4);
  CHECK(v6.to(out, AF_INET) == 0);
  CHECK(v6.to(out, AF_INET6) == sizeof(sockaddr_in6));
  CHECK(Endpoint::from(reinterpret_cast<sockaddr*>(&out), 24) == v6);
  CHECK(Endpoint::from(reinterpret_cast<sockaddr*>(&out), 23).address.family() == IpAddress::Family::none);
  CHECK(text(v4) == "192.0.2.1:80");
  CHECK(text(v6) == "[2001:db8::1]:443");
}
