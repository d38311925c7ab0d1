// What the edit makes of a head is again a strict head, with the same framing, for whatever head is let in.
#include <random>

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include "agent/plain_edit.h"

using namespace towpath;

namespace {

const ProxyLogin login{"boat", "horse"};
constexpr std::string_view authorization = "Basic Ym9hdDpob3JzZQ==";

TargetView named(std::string_view name) { return {name, IpAddress::parse("198.18.0.1"), 80}; }
TargetView at(std::string_view address) { return {{}, IpAddress::parse(address), 80}; }

std::string request_for(const TargetView& target, const std::string& text) {
  HttpHead head;
  REQUIRE(head.parse(HttpKind::request, text) == HttpFlaw::none);
  std::string out;
  PlainEdit(target, nullptr).write_request(head, out);
  return out;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find("\r\n")); }

PlainEdit::Way way(const TargetView& target, const std::string& text) {
  HttpHead head;
  REQUIRE(head.parse(HttpKind::request, text) == HttpFlaw::none);
  return PlainEdit(target, nullptr).way_of(head);
}

// Null, or what is wrong with what was written for that request.
const char* broken(const HttpHead& head, const PlainEdit& edit) {
  if (edit.way_of(head) == PlainEdit::Way::refuse || edit.way_of(head) == PlainEdit::Way::tunnel) return nullptr;
  std::string out;
  edit.write_request(head, out);
  HttpHead again;
  const HttpFlaw flaw = again.parse(HttpKind::request, out);
  if (flaw == HttpFlaw::head_too_long || flaw == HttpFlaw::too_many_fields) return nullptr;
  if (flaw != HttpFlaw::none) return "not a strict head any more";
  if (framing_of(again).kind != framing_of(head).kind || framing_of(again).length != framing_of(head).length)
    return "another framing";
  if (again.method() != head.method() || again.host() != head.host() || again.is_1_1() != head.is_1_1())
    return "another request";
  if (again.target().substr(0, 7) != "http://") return "not in absolute form";
  std::size_t logins = 0;
  for (const HttpField& each : again.fields()) {
    if (!same_word(each.name, "proxy-authorization")) continue;
    ++logins;
    if (each.value != authorization) return "somebody else's credentials";
  }
  if (logins != 1) return "not one login";
  if (again.find("upgrade") != nullptr || again.find("te") != nullptr) return "a field of the hop";
  return nullptr;
}

std::vector<std::string> requests() {
  std::vector<std::string> out;
  for (const auto& row : YAML::LoadFile(TOWPATH_VECTORS "/http-messages.json")["streams"]) {
    if (row["kind"].as<std::string>() != "request") continue;
    const auto wire = row["wire"].as<std::string>();
    if (const auto end = wire.find("\r\n\r\n"); end != wire.npos) out.push_back(wire.substr(0, end + 4));
  }
  out.push_back(
      "GET http://A.example:80/x HTTP/1.1\r\nHost: a.example\r\nConnection: te, host, x-y, content-length\r\n"
      "TE: trailers\r\nX-Y: 1\r\nProxy-Authorization: Basic eDp5\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n");
  return out;
}

}  // namespace

TEST_CASE("the target is where the program connected to") {
  const std::string plain = "GET /p?q HTTP/1.1\r\nHost: a.example\r\n\r\n";
  CHECK(first_line(request_for(named("a.example"), plain)) == "GET http://a.example/p?q HTTP/1.1");
  CHECK(first_line(request_for(named("b.example"), plain)) == "GET http://b.example/p?q HTTP/1.1");
  CHECK(first_line(request_for(at("192.0.2.1"), plain)) == "GET http://a.example/p?q HTTP/1.1");
  CHECK(first_line(request_for(at("2001:db8::1"), "GET / HTTP/1.0\r\n\r\n")) == "GET http://[2001:db8::1]/ HTTP/1.0");
  CHECK(first_line(request_for(at("192.0.2.1"), "GET / HTTP/1.1\r\nHost: 192.0.2.9\r\n\r\n")) ==
        "GET http://192.0.2.1/ HTTP/1.1");
  CHECK(first_line(request_for(at("192.0.2.1"), "GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n")) ==
        "GET http://192.0.2.1/ HTTP/1.1");
  CHECK(first_line(request_for(named("a.example"), "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n")) ==
        "OPTIONS http://a.example HTTP/1.1");
}

TEST_CASE("another place is refused, and what needs a tunnel is told apart") {
  const auto with = [](const std::string& start, const std::string& more = "") {
    return start + " HTTP/1.1\r\nHost: a.example\r\n" + more + "\r\n";
  };
  const TargetView here = named("a.example");
  using Way = PlainEdit::Way;
  CHECK(way(here, with("GET http://A.EXAMPLE.:80/")) == Way::forward);
  CHECK(way(here, with("GET http://a.example?x")) == Way::forward);
  CHECK(way(at("192.0.2.1"), with("GET http://a.example/")) == Way::forward);
  for (const char* start :
       {"GET http://b.example/", "GET http://a.example:8080/", "GET http://a.example@b.example/",
        "GET https://a.example/", "GET ftp://a.example/", "GET http://", "GET a.example:80", "GET *", "GET ?x"})
    CHECK(way(here, with(start)) == Way::refuse);
  CHECK(way(here, with("CONNECT b.example:443")) == Way::tunnel);
  CHECK(way(here, with("GET /", "Connection: upgrade\r\nUpgrade: websocket\r\n")) == Way::upgrade);
  CHECK(way(here, with("GET /", "Upgrade: websocket\r\n")) == Way::forward);
  CHECK(way(here, with("GET /", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n")) == Way::forward);
}

TEST_CASE("a request stays strict and keeps its framing, mutated or not") {
  const PlainEdit edit(named("a.example"), &login);
  std::mt19937 random(4711);
  const auto below = [&](std::size_t limit) { return random() % limit; };
  constexpr std::string_view words[] = {
      "\r\n", ",", "Connection: ", "close",     "content-length", "Upgrade", "http://",          "/",
      ":",    "*", "X-Y: z\r\n",   "TE: a\r\n", "keep-alive",     "Host",    "transfer-encoding"};
  const std::vector<std::string> all = requests();
  std::size_t written = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string text = all[below(all.size())];
    for (std::size_t times = round < 500 ? 0 : below(4); times > 0 && text.size() > 1; --times) {
      const std::size_t place = below(text.size());
      if (below(2) == 0) text.insert(place, words[below(std::size(words))]);
      else text.erase(place, 1 + below(3));
    }
    HttpHead head;
    if (head.parse(HttpKind::request, text) != HttpFlaw::none) continue;
    if (const char* wrong = broken(head, edit)) FAIL(wrong, ": ", text);
    ++written;
  }
  CHECK(written > 1500);
}

TEST_CASE("an answer keeps its framing and says what becomes of the program's connection") {
  const PlainEdit edit(named("a.example"), nullptr);
  HttpHead head;
  const std::string text =
      "HTTP/1.1 200 OK\r\nConnection: close, x-hop, content-length\r\nX-Hop: 1\r\nContent-Length: 5\r\nKeep-Alive: "
      "3\r\n"
      "Upgrade: h2\r\n\r\n";
  REQUIRE(head.parse(HttpKind::response, text) == HttpFlaw::none);
  std::string out;
  edit.write_response(head, true, true, out);
  CHECK(out == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  out.clear();
  edit.write_response(head, true, false, out);
  CHECK(out == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
  out.clear();
  edit.write_response(head, false, true, out);
  CHECK(out == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n");
}
