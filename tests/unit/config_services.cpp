#include "config/services.h"

#include <doctest/doctest.h>

#include "config/load.h"

using namespace towpath;

namespace {

// The warnings of a policy that comes from the environment alone, one per line.
std::string warnings(std::map<std::string, std::string> environment) {
  environment.try_emplace("http_proxy", "http://user:secret@proxy.example:3128");
  const Loaded loaded = load({"", {}, environment});
  REQUIRE(loaded.policy);
  std::string out;
  for (const Problem& problem : tunnelled_services(*loaded.policy, environment)) out += problem.text() + "\n";
  CHECK(out.find("secret") == out.npos);
  return out;
}

std::string database(const char* url, const char* exempt = "") {
  return warnings({{"CODER_PG_CONNECTION_URL", url}, {"no_proxy", exempt}});
}

}  // namespace

TEST_CASE("services: a database that would be tunnelled") {
  const std::string text = database("postgres://coder:secret@db.internal/coder?sslmode=disable");
  CHECK(text ==
        "$CODER_PG_CONNECTION_URL: db.internal:5432 would be tunnelled through http://proxy.example:3128: add "
        "db.internal to exempt, or set ports: [80, 443], unless that proxy can reach it\n");
}

TEST_CASE("services: every form of a database's address") {
  for (const char* url :
       {"postgresql://db.internal:5433/coder", "postgres://coder:p@ss/secret@db.internal:5433",
        "postgres://db.internal:5433,other.internal/coder", "host=db.internal port=5433 user=coder"}) {
    CAPTURE(url);
    CHECK(database(url).find("db.internal:5433 would be") != std::string::npos);
  }
  CHECK(database("postgres://coder@[2001:db8::7]:5433/x").find("2001:db8::7:5433 would be") != std::string::npos);
}

TEST_CASE("services: what is reached directly, or not by TCP, is no matter") {
  CHECK(database("postgres://coder:secret@db.internal/coder", "internal") == "");
  CHECK(database("postgres://localhost/coder") == "");
  CHECK(database("postgres:///coder?host=/run/postgresql") == "");
  CHECK(database("host=/run/postgresql user=coder") == "");
  CHECK(database("") == "");
}

TEST_CASE("services: the cluster's own address") {
  const std::string text = warnings({{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}, {"KUBERNETES_SERVICE_PORT", "443"}});
  CHECK(
      text ==
      "$KUBERNETES_SERVICE_HOST: 10.96.0.1:443 would be tunnelled through http://proxy.example:3128: add 10.96.0.1 to "
      "exempt, unless that proxy can reach it\n");
  CHECK(warnings({{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}, {"no_proxy", "10.96.0.0/12"}}) == "");
}
