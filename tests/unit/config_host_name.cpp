#include "config/host_name.h"

#include <doctest/doctest.h>

using namespace towpath;

TEST_CASE("host name: ACE, lower case, one trailing dot removed") {
  CHECK(normalise_name("Example.COM.") == "example.com");
  CHECK(normalise_name("B\xc3\x9c"
                       "CHER.example") == "xn--bcher-kva.example");
  CHECK(normalise_name("stra\xc3\x9f"
                       "e.de") == "xn--strae-oqa.de");
  CHECK(normalise_name("\xf0\x9f\x92\xa9.la") == "xn--ls8h.la");
  CHECK(normalise_name("foo\xe3\x80\x82"
                       "bar") == "foo.bar");
  CHECK(normalise_name("_sip._tcp.my_host") == "_sip._tcp.my_host");
  CHECK(normalise_name("127.1") == "127.1");
}

TEST_CASE("host name: what cannot be a host name is empty") {
  const std::string too_long =
      std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c') + "." + std::string(62, 'd');
  CHECK(normalise_name(too_long.substr(1)).size() == 253);
  CHECK(normalise_name(too_long) == "");
  for (const char* bad : {"", ".", "..", "a..b", ".a", "a..", "a b", " a", "a\t", "a/b", "a:b", "a@b", "::1", "a\x7f",
                          "\xff\xfe", "\xc3\xbc b.de", "*.a"})
    CHECK_MESSAGE(normalise_name(bad).empty(), bad);
  CHECK(normalise_name(std::string_view("a\0b", 3)).empty());
}
