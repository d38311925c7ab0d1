// The handshake vectors of tests/vectors/wire-vectors.json: whole, byte by byte and cut everywhere.
#include <array>
#include <cstdlib>

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include "proto/http_connect.h"
#include "proto/socks5.h"
#include "tests/unit/proto_drive.h"

using namespace towpath;
using namespace towpath::testing;

namespace {

const YAML::Node& wire_vectors() {
  static const YAML::Node root = YAML::LoadFile(TOWPATH_VECTORS "/wire-vectors.json");
  return root;
}

// The file is UTF-8, its strings mean one byte per code point.
std::string latin1(const std::string& utf8) {
  std::string out;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (byte < 0x80) {
      out += utf8[i];
    } else {
      REQUIRE((byte == 0xc2 || byte == 0xc3));
      out += static_cast<char>((byte & 3) << 6 | (utf8.at(++i) & 0x3f));
    }
  }
  return out;
}

// "\r\n" spelled out, and x{n} or (group){n} repeated.
std::string expanded(const std::string& pattern) {
  std::string out, last;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '{') {
      const std::size_t end = pattern.find('}', i);
      for (int times = std::stoi(pattern.substr(i + 1)); times > 1; --times) out += last;
      i = end;
      continue;
    }
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      const char c = pattern[++i];
      last = c == 'r' ? "\r" : c == 'n' ? "\n" : c == 't' ? "\t" : c == '0' ? std::string(1, '\0') : std::string(1, c);
    } else if (const std::size_t end = pattern.find("){", i); pattern[i] == '(' && end != pattern.npos) {
      last = expanded(pattern.substr(i + 1, end - i - 1));
      i = end;
    } else {
      last = pattern[i];
    }
    out += last;
  }
  return out;
}

std::string from_hex(const std::string& hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

struct Given {
  std::string host, user, password;
  std::uint16_t port = 80;
  bool has_login = false;

  TargetView target() const {
    const IpAddress address = IpAddress::parse(host);
    return address ? TargetView{{}, address, port} : TargetView{host, {}, port};
  }
  template <class M>
  M machine() const {
    const ProxyLogin login{user, password};
    return M(target(), has_login ? &login : nullptr);
  }
};

Given given(const YAML::Node& v) {
  Given out;
  out.host = "example.com";
  if (const YAML::Node dest = v["dest"]; dest && dest.IsMap()) {
    out.host = dest["host"].as<std::string>();
    out.port = dest["port"].as<std::uint16_t>();
  } else if (dest) {
    const std::string text = expanded(dest.as<std::string>());
    const std::size_t colon = text.rfind(':');
    out.host = text.substr(0, colon);
    if (out.host.front() == '[') out.host = out.host.substr(1, out.host.size() - 2);
    out.port = static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1)));
  }
  if (v["auth"]) {
    const std::string text = expanded(v["auth"].as<std::string>());
    const std::size_t colon = text.find(':');
    out.has_login = true;
    out.user = text.substr(0, colon);
    if (colon != text.npos) out.password = text.substr(colon + 1);
  }
  return out;
}

struct Expected {
  std::string stream, tunnel;
  std::vector<std::string> sends;  // of SOCKS5; HTTP requests have vectors of their own
  bool closes = false;
};

template <class M>
void check_vector(const YAML::Node& v, const Expected& expected) {
  const Given in = given(v);
  const std::string& stream = expected.stream;
  M machine = in.machine<M>();
  const Driven whole = drive_whole(machine, stream);
  REQUIRE(whole.broken == nullptr);
  if (!expected.sends.empty()) CHECK(whole.sends == expected.sends);
  if (v["timing"] && v["timing"].as<std::string>() == "no bytes") {
    CHECK(machine.want() == Want::receive);  // the deadline is the driver's
    return;
  }
  if (expected.closes) machine.peer_closed();
  const YAML::Node expect = v["expect"];
  if (expect["outcome"].as<std::string>() == "established") {
    CHECK(machine.want() == Want::finished);
    CHECK(stream.substr(whole.consumed) == expected.tunnel);
  } else {
    CHECK(machine.want() == Want::failed);
    CHECK(errno_name(errno_of(machine.error())) == expect["errno"].as<std::string>());
  }
  M bytewise = in.machine<M>();
  CHECK(drive_bytes(bytewise, stream) == whole);
  const std::size_t step = 1 + stream.size() / 4096;  // every cut, but for those as long as the limits
  for (std::size_t cut = 0; cut <= stream.size(); cut += step) {
    M halved = in.machine<M>();
    CAPTURE(cut);
    CHECK(drive_cut(halved, stream, cut) == whole);
    if (expected.closes) halved.peer_closed();
    CHECK(halved.error() == machine.error());
  }
}

bool closes(const YAML::Node& v) {
  return (v["then"] && v["then"].as<std::string>() == "eof") || (v["timing"] && v["timing"].as<std::string>() == "rst");
}

}  // namespace

TEST_CASE("vectors: patterns repeat a character or a group") {
  CHECK(expanded("a{3}b") == "aaab");
  CHECK(expanded("X: (yz\\r\\n){2}(p)") == "X: yz\r\nyz\r\n(p)");
}

TEST_CASE("http connect: every reply vector") {
  int run = 0;
  for (const YAML::Node& v : wire_vectors()["vectors"]) {
    if (v["proto"].as<std::string>() != "http-connect") continue;
    INFO(v["id"].as<std::string>());
    Expected expected;
    expected.stream = latin1(v["recv"].as<std::string>());
    if (v["recv_is_pattern"]) expected.stream = expanded(expected.stream);
    if (v["expect"]["tunnel_bytes"]) expected.tunnel = latin1(v["expect"]["tunnel_bytes"].as<std::string>());
    expected.closes = closes(v);
    check_vector<HttpConnectClient>(v, expected);
    ++run;
  }
  CHECK(run == 35);
}

TEST_CASE("http connect: every request vector") {
  int run = 0, skipped = 0;
  for (const YAML::Node& v : wire_vectors()["vectors"]) {
    if (v["proto"].as<std::string>() != "http-connect-request") continue;
    const auto id = v["id"].as<std::string>(), expected = v["expect_send"].as<std::string>();
    INFO(id);
    Given in = given(v);
    if (in.host.find('%') != in.host.npos) {  // a scope id: never reaches a proxy, the configuration sees to it
      ++skipped;
      continue;
    }
    if (in.host ==
        "b\xc3\xbc"
        "cher.example") {  // the caller converts; unconverted it must not go out
      CHECK(in.machine<HttpConnectClient>().error().code == Err::name_invalid);
      in.host = "xn--bcher-kva.example";
    }
    const auto machine = in.machine<HttpConnectClient>();
    const auto bytes = machine.to_send();
    if (expected.rfind("ERROR ", 0) == 0) {
      CHECK(machine.want() == Want::failed);
      CHECK(errno_name(errno_of(machine.error())) == expected.substr(6));
      CHECK(bytes.empty());
    } else {
      CHECK(machine.want() == Want::send);
      CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == expected);
    }
    ++run;
  }
  CHECK(run == 7);
  CHECK(skipped == 1);
}

TEST_CASE("socks5: every vector") {
  int run = 0;
  for (const YAML::Node& v : wire_vectors()["vectors"]) {
    if (v["proto"].as<std::string>() != "socks5") continue;
    INFO(v["id"].as<std::string>());
    Expected expected;
    for (const YAML::Node& step : v["steps"]) {
      expected.sends.push_back(from_hex(step["send"].as<std::string>()));
      expected.stream += from_hex(step["recv"].as<std::string>());
    }
    if (v["expect"]["tunnel_hex"]) expected.tunnel = from_hex(v["expect"]["tunnel_hex"].as<std::string>());
    expected.closes = closes(v);
    check_vector<Socks5Client>(v, expected);
    ++run;
  }
  CHECK(run == 25);
}
