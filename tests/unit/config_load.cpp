#include "config/load.h"

#include <cstdlib>
#include <fstream>
#include <random>

#include <doctest/doctest.h>

#include "config/decide.h"
#include "config/explain.h"
#include "tests/unit/scratch.h"

#include <sys/stat.h>
#include <unistd.h>

using namespace towpath;

namespace {

// The problems' texts with the file's name as "F".
struct Outcome {
  Loaded loaded;
  std::vector<std::string> texts;

  [[nodiscard]] bool has(std::string_view text) const {
    for (const std::string& one : texts)
      if (one.starts_with(text)) return true;
    std::string all;
    for (const std::string& one : texts) all += one + "\n";
    MESSAGE("wanted \"" << text << "\" in\n" << all);
    return false;
  }
};

Outcome load_yaml(std::string_view yaml, std::map<std::string, std::string> environment = {},
                  Overrides overrides = {}) {
  const TempFile file(yaml);
  Outcome out{load({file.path(), std::move(overrides), std::move(environment)}), {}};
  for (const Problem& problem : out.loaded.problems) {
    std::string text = problem.text();
    for (std::size_t at; (at = text.find(file.path())) != text.npos;) text.replace(at, file.path().size(), "F");
    out.texts.push_back(text);
  }
  return out;
}

Loaded load_environment(std::map<std::string, std::string> environment, Overrides overrides = {}) {
  return load({"", std::move(overrides), std::move(environment)});
}

std::string shown(const ProxyList& proxies) {
  std::string out;
  for (const ProxyUrl& proxy : proxies) out += (out.empty() ? "" : " ") + proxy.display();
  return out.empty() ? "none" : out;
}

}  // namespace

TEST_CASE("load: the chart's own defaults say nothing and are no problem") {
  const auto out = load_yaml(
      "coderd:\n"
      "  image: \"docker.io/coderenvs/coder-service:1.30.0\"\n"
      "  replicas: 1\n"
      "  serviceSpec:\n    type: LoadBalancer\n    externalTrafficPolicy: Local\n"
      "  tls:\n    hostSecretName: \"\"\n"
      "  proxy:\n    # Proxy to use for HTTP\n    http: \"\"\n    https: \"\"\n    exempt: \"cluster.local\"\n"
      "  reverseProxy:\n    trustedOrigins: []\n    headers: []\n"
      "  extraEnvs: []\n"
      "envbox:\n  image: x\n"
      "services:\n  tolerations: []\n  resources: {}\n",
      {{"http_proxy", ""},
       {"https_proxy", ""},
       {"no_proxy", "cluster.local"},
       {"PROXY_TRUSTED_ORIGINS", ""},
       {"PROXY_TRUSTED_HEADERS", ""}});
  CHECK(out.texts.empty());
  REQUIRE(out.loaded.policy);
  CHECK_FALSE(out.loaded.configured);
  CHECK_FALSE(out.loaded.policy->any_proxy());
  CHECK(out.loaded.policy->exempt.entries() == std::vector<std::string>{"cluster.local"});
  CHECK(out.loaded.used_environment == std::vector<std::string>{"http_proxy", "https_proxy", "no_proxy"});
}

TEST_CASE("load: the examples of the documentation work as they are") {
  const auto out = load_yaml(
      "coderd:\n  proxy:\n    http: localhost:3128\n    exempt: \"cluster.local,example.com\"\n"
      "  reverseProxy:\n    trustedOrigins:\n      - 127.0.0.1/8\n      - 10.0.0.0/8\n    headers:\n      - "
      "X-Forwarded-For\n");
  CHECK(out.texts.empty());
  REQUIRE(out.loaded.policy);
  const Policy& policy = *out.loaded.policy;
  CHECK(out.loaded.configured);
  CHECK(shown(policy.http) == "http://localhost:3128");
  CHECK(policy.exempt.entries().size() == 2);
  CHECK(policy.reverse.trusted_origins.size() == 2);
  CHECK(policy.reverse.trusted_origins[0].text() == "127.0.0.0/8");
  CHECK(policy.reverse.headers == std::vector<std::string>{"X-Forwarded-For"});
  CHECK(shown(load_yaml("proxy: {http: 'https://localhost'}").loaded.policy->http) == "https://localhost:443");
}

TEST_CASE("load: null, empty strings and empty lists mean not given, in every key") {
  const auto out = load_yaml(
      "proxy: {http: ~, https: '', all: , exempt: [], ports: [], dns: , dnsOtherTypes: , linkLocal: ~, udp: '', "
      "plainHttp: ~, syntheticRange: '', "
      "connectTimeout: , setuid: , net: ,"
      " credentialsFile: '', tls: {caFile: '', caDirs: [], certFile: , keyFile: , serverName: '', insecureSkipVerify: "
      "}}\n"
      "reverseProxy: {trustedOrigins: , headers: [], proxyProtocol: , ports: [], strip: , headerTimeout: ''}\n");
  CHECK(out.texts.empty());
  REQUIRE(out.loaded.policy);
  CHECK(out.loaded.policy->ports.all);
  CHECK(load_yaml("coderd: {proxy: , reverseProxy: }").texts.empty());
  CHECK(load_yaml("coderd: {proxy: }\nproxy: {http: a}").texts.empty());
}

TEST_CASE("load: every key beyond the chart is read") {
  const TempFile readable("user:pa:ss word\nsecond line\n");
  const auto out = load_yaml(
      "coderd:\n  proxy:\n    http: [a.test]\n    https: https://b.test\n    all: socks5://u@c.test\n    exempt: "
      "[x.test, 'y.test, z.test']\n"
      "    ports: [443, 80]\n    dns: local\n    dnsOtherTypes: forward\n    linkLocal: tunnel\n    udp: block\n    "
      "plainHttp: absolute\n    syntheticRange: "
      "100.64.1.0/10\n"
      "    connectTimeout: 1500ms\n    setuid: direct\n    net: require\n    credentialsFile: " +
      readable.path() +
      "\n"
      "    tls: {caFile: " +
      readable.path() + ", certFile: " + readable.path() + ", keyFile: " + readable.path() +
      ", serverName: B.test.}\n"
      "  reverseProxy:\n    trustedOrigins: '10.0.0.0/8, 192.0.2.1'\n    headers: [X-Real-IP]\n    proxyProtocol: "
      "require\n"
      "    ports: [8080, {port: 8443, mode: proxy}]\n    strip: true\n    headerTimeout: 2m\n");
  CHECK(out.texts.empty());
  REQUIRE(out.loaded.policy);
  const Policy& policy = *out.loaded.policy;
  CHECK(policy.http.at(0).credentials == Credentials{"user", "pa:ss word"});
  CHECK(policy.all.at(0).credentials == Credentials{"u", ""});
  CHECK(policy.exempt.entries() == std::vector<std::string>{"x.test", "y.test", "z.test"});
  CHECK_FALSE(policy.ports.all);
  CHECK(policy.ports.contains(80));
  CHECK_FALSE(policy.ports.contains(81));
  CHECK(policy.dns == DnsMode::local);
  CHECK(policy.other_types == OtherTypes::forward);
  CHECK(policy.link_local == LinkLocal::tunnel);
  CHECK(policy.udp == UdpMode::block);
  CHECK(policy.plain_http == PlainHttp::absolute);
  CHECK(policy.setuid == SetuidMode::direct);
  CHECK(policy.net == NetMode::required);
  CHECK(policy.synthetic_range.text() == "100.64.0.0/10");
  CHECK(policy.connect_timeout.count() == 1500);
  CHECK(policy.tls.server_name == "b.test");
  CHECK(policy.reverse.trusted_origins[1].text() == "192.0.2.1/32");
  CHECK(policy.reverse.proxy_protocol == ProxyProtocol::require);
  CHECK(policy.reverse.ports ==
        std::vector<ManagedPort>{{8080, ManagedPort::Mode::http}, {8443, ManagedPort::Mode::proxy}});
  CHECK(policy.reverse.strip);
  CHECK(policy.reverse.header_timeout.count() == 120000);
  CHECK(policy.synthetic_range.contains(IpAddress::parse("100.65.0.1")));
}

TEST_CASE("load: all problems are reported at once, each with its position") {
  const auto out = load_yaml(
      "coderd:\n"
      "  proxy:\n"
      "    htps: proxy:3128\n"
      "    https: socks4://proxy\n"
      "    http: {a: b}\n"
      "    exempt:\n"
      "      - \"'quoted.test'\"\n"
      "      - 10.0.0.0/33\n"
      "    ports: [80, 443, \"htpp\"]\n"
      "    dns: remote\n"
      "    connectTimeout: 60\n"
      "    syntheticRange: 127.0.0.0/8\n"
      "    tls: {cafile: x, serverName: 'a b', insecureSkipVerify: maybe}\n"
      "    udp: block\n"
      "    udp: allow\n"
      "    credentialsFile: /nonexistent/secret\n"
      "  reverseProxy:\n"
      "    trustedOrigins: [10.0.0.0/8, bad]\n"
      "    headers: ['X:Forwarded']\n"
      "    ports: [{port: 80}, {port: 80}, {prt: 1}, 0]\n"
      "    zzzzzzzzzzzz: 1\n");
  CHECK_FALSE(out.loaded.policy);
  CHECK(out.loaded.configured);
  CHECK(out.has("F:3:5: coderd.proxy.htps: unknown key, did you mean https?"));
  CHECK(out.has("F:4:12: coderd.proxy.https: unsupported scheme socks4: use socks5"));
  CHECK(out.has("F:5:11: coderd.proxy.http: expected a proxy like http://proxy.example.com:3128, or a list of such"));
  CHECK(out.has("F:7:9: coderd.proxy.exempt[0]: unusable entry \"'quoted.test'\": quote character"));
  CHECK(out.has("F:8:9: coderd.proxy.exempt[1]: unusable entry \"10.0.0.0/33\": bad range"));
  CHECK(out.has("F:9:22: coderd.proxy.ports[2]: expected 1 to 65535, got \"htpp\""));
  CHECK(out.has("F:10:10: coderd.proxy.dns: expected one of proxy, local, got \"remote\""));
  CHECK(out.has("F:11:21: coderd.proxy.connectTimeout: expected a time from 10ms to 60m with its unit"));
  CHECK(out.has("F:12:21: coderd.proxy.syntheticRange: expected an IPv4 range"));
  CHECK(out.has("F:13:11: coderd.proxy.tls.cafile: unknown key, did you mean caFile?"));
  CHECK(out.has("F:13:34: coderd.proxy.tls.serverName: expected a host name"));
  CHECK(out.has("F:13:61: coderd.proxy.tls.insecureSkipVerify: expected true or false"));
  CHECK(out.has("F:15:5: coderd.proxy.udp: this key is already in line 14"));
  CHECK(out.has("F:16:22: coderd.proxy.credentialsFile: cannot read /nonexistent/secret: No such file"));
  CHECK(out.has("F:18:34: coderd.reverseProxy.trustedOrigins[1]: expected a range"));
  CHECK(out.has("F:19:15: coderd.reverseProxy.headers[0]: expected the name"));
  CHECK(out.has("F:20:25: coderd.reverseProxy.ports[1]: port 80 is there twice"));
  CHECK(out.has("F:20:38: coderd.reverseProxy.ports[2].prt: unknown key, did you mean port?"));
  CHECK(out.has("F:20:47: coderd.reverseProxy.ports[3]: expected a port"));
  CHECK(out.has("F:21:5: coderd.reverseProxy.zzzzzzzzzzzz: unknown key; known are trustedOrigins, headers"));
}

TEST_CASE("load: malformed YAML is one error with line and column") {
  const auto out = load_yaml("proxy:\n  http: \"unfinished\n");
  REQUIRE(out.texts.size() == 1);
  CHECK(out.texts[0].starts_with("F:"));
  CHECK(out.texts[0].find("not valid YAML") != std::string::npos);
  CHECK(load_yaml("proxy:\n\thttp: a\n").has("F:2:6: not valid YAML"));
  CHECK(load_yaml(std::string("proxy:\0", 7)).has("F:1:1: not a text file"));
  CHECK(load_yaml(",proxy: {http: a}\n").has("F:1:1: not valid YAML"));
  CHECK(load_yaml("---\nproxy: {http: a}\n...\n---\n---\n").loaded.policy);
  CHECK(load_yaml("proxy:\n  http: |\n    a\n").loaded.policy);
  CHECK(load_yaml("proxy: {http: a}").loaded.policy);
  CHECK(load_yaml("- a\n").has("F:1:1: expected a mapping"));
  CHECK(load_yaml("coderd: 5\n").has("F:1:9: coderd: expected a mapping"));
  CHECK(load_yaml("coderd:\n  proxy: localhost:3128\n").has("F:2:10: coderd.proxy: expected a mapping"));
  CHECK(load_yaml("a: 1\n---\nproxy: {http: b}\n").has("F:2:1: more than one YAML document"));
  CHECK(load_yaml("---\n---\nproxy: {http: b}\n").has("F:2:1: more than one YAML document"));
  CHECK(load_yaml("&a proxy: {exempt: [&b [*b]]}\n").loaded.policy == nullptr);
}

TEST_CASE("load: one section in two places is an error") {
  const auto out = load_yaml("proxy: {http: a}\ncoderd:\n  proxy: {http: b}\n  proxy: {http: c}\n");
  CHECK(out.has("F:1:8: proxy: also given as coderd.proxy in line 3"));
  CHECK(out.has("F:4:3: coderd.proxy: this key is already in line 3"));
  CHECK(load_yaml("proxy: {http: a}\ncoderd: {reverseProxy: {strip: true}}").loaded.policy);
}

TEST_CASE("load: a file that is named and configures nothing is an error") {
  for (const char* text :
       {"", "a: 1\n", "coderd:\n", "coderd: {image: x}\n", "coderd: {env: [{name: a}]}\nother: {proxy: 5}\n"}) {
    const auto out = load_yaml(text, {{"http_proxy", "a"}});
    CHECK(out.has("F: configures nothing: no section coderd.proxy"));
    CHECK(out.texts.size() == 1);
    CHECK_FALSE(out.loaded.policy);
    CHECK(out.loaded.configured);
  }
}

TEST_CASE("load: a mistyped section is an error") {
  const std::pair<const char*, const char*> rows[] = {
      {"prox: {http: a}\n", "F:1:1: prox: unknown key, did you mean proxy?"},
      {"porxy: {http: a}\n", "F:1:1: porxy: unknown key, did you mean proxy?"},
      {"reverseproxy: {}\n", "F:1:1: reverseproxy: unknown key, did you mean reverseProxy?"},
      {"codrd: {proxy: {http: a}}\n", "F:1:1: codrd: unknown key, did you mean coderd?"},
      {"coder: {proxy: {http: a}}\n", "F:1:1: coder: unknown key, did you mean coderd?"},
      {"coderd: {prxy: {http: a}}\n", "F:1:10: coderd.prxy: unknown key, did you mean proxy?"},
      {"coderd: {proxy: {}, Proxy: {http: a}}\n", "F:1:21: coderd.Proxy: unknown key, did you mean proxy?"},
      {"coderd: {proxy: {}, reversProxy: 1}\n", "F:1:21: coderd.reversProxy: unknown key, did you mean reverseProxy?"},
      {"proxy: {http: a}\ncodred: {proxy: {https: b}}\n", "F:2:1: codred: unknown key, did you mean coderd?"}};
  for (const auto& [text, problem] : rows) {
    const auto out = load_yaml(text);
    CHECK(out.has(problem));
    CHECK(out.texts.size() == 1);
    CHECK_FALSE(out.loaded.policy);
  }
  // Others' keys.
  CHECK(load_yaml("coderd: {proxy: {http: a}, env: 1, workspaceProxy: false}\ncoder: {}\nprox: 1\ncode-server: 2\n")
            .texts.empty());
}

TEST_CASE("load: a proxy that leaves port 80 out is said, and nothing that is in order") {
  CHECK(
      load_yaml(
          "proxy: {http: a, plainHttp: connect, setuid: direct}\nreverseProxy: {headers: [], ports: all, strip: false}")
          .texts.empty());
  CHECK(load_yaml("proxy: {https: a}").has("proxy.https: connections to port 80 go direct"));
  CHECK(load_yaml("proxy: {https: a, ports: [443]}").texts.empty());
  CHECK(load_yaml("proxy: {https: a, all: b}").texts.empty());
}

TEST_CASE("load: an unreadable file is an error, also when the environment names it") {
  CHECK(load({"/nonexistent.yaml", {}, {}}).problems.at(0).text() ==
        "-c: cannot read /nonexistent.yaml: No such file or directory");
  const Loaded named = load_environment({{"TOWPATH_CONFIG", "/nonexistent.yaml"}});
  CHECK(named.problems.at(0).where == "$TOWPATH_CONFIG");
  CHECK_FALSE(named.policy);
  CHECK(named.configured);
  CHECK_FALSE(load({"/", {}, {}}).policy);
  const TempFile file("proxy: {http: a}");
  CHECK(shown(load_environment({{"TOWPATH_CONFIG", file.path()}}).policy->http) == "http://a:80");
}

TEST_CASE("load: command line before file before environment, whole values only") {
  const std::map<std::string, std::string> environment = {
      {"http_proxy", "e1"}, {"https_proxy", "e2"}, {"no_proxy", "e.test"}};
  const auto file = load_yaml("proxy: {http: f1, exempt: f.test}", environment);
  CHECK(shown(file.loaded.policy->http) == "http://f1:80");
  CHECK(shown(file.loaded.policy->https) == "http://e2:80");
  CHECK(file.loaded.policy->exempt.entries() == std::vector<std::string>{"f.test"});
  const auto line = load_yaml("proxy: {http: f1, exempt: f.test}", environment, {{"c1"}, {""}, "c.test"});
  CHECK(shown(line.loaded.policy->http) == "http://c1:80");
  CHECK(line.loaded.policy->exempt.entries() == std::vector<std::string>{"c.test"});
  CHECK(line.loaded.policy->source.starts_with("command line, "));
  CHECK(line.loaded.policy->source.ends_with(", environment"));
}

TEST_CASE("load: environment variables, lower case first, empty is unset, CGI guarded") {
  CHECK(shown(load_environment({{"http_proxy", "a"}, {"HTTP_PROXY", "b"}}).policy->http) == "http://a:80");
  CHECK(shown(load_environment({{"http_proxy", " "}, {"HTTP_PROXY", "b"}}).policy->http) == "http://b:80");
  CHECK(shown(load_environment({{"HTTP_PROXY", "b"}, {"REQUEST_METHOD", "GET"}}).policy->http) == "none");
  CHECK(shown(load_environment({{"HTTPS_PROXY", "b"}, {"REQUEST_METHOD", "GET"}}).policy->https) == "http://b:80");
  CHECK(shown(load_environment({{"ALL_PROXY", "socks5h://b"}}).policy->all) == "socks5://b:1080");
  const Loaded reverse =
      load_environment({{"PROXY_TRUSTED_ORIGINS", "10.0.0.0/8,::1/128"}, {"PROXY_TRUSTED_HEADERS", "X-Forwarded-For"}});
  CHECK(reverse.configured);
  CHECK(reverse.policy->reverse.trusted_origins.size() == 2);
  CHECK(load_environment({{"CODER_PROXY_TRUSTED_HEADERS", "A,B"}}).policy->reverse.headers.size() == 2);
  const Loaded tls = load_environment({{"SSL_CERT_FILE", "/ca"},
                                       {"SSL_CERT_DIR", "/a::/b"},
                                       {"SSL_CLIENT_CERT_FILE", "/c"},
                                       {"SSL_CLIENT_KEY_FILE", "/k"}});
  CHECK(tls.policy->tls.ca_file == "/ca");
  CHECK(tls.policy->tls.ca_dirs == std::vector<std::string>{"/a", "/b"});
  CHECK(tls.policy->tls.key_file == "/k");
  CHECK_FALSE(tls.configured);
  CHECK_FALSE(load_environment({}).configured);
  CHECK_FALSE(load_environment({{"no_proxy", "a"}}).configured);
}

TEST_CASE("load: a bad value is an error wherever it decides, except for entries of no_proxy") {
  const Loaded bad =
      load_environment({{"HTTPS_PROXY", "http://user:hunter2@pro xy"}, {"no_proxy", "http://x.test,y.test"}});
  CHECK_FALSE(bad.policy);
  CHECK(bad.configured);
  REQUIRE(bad.problems.size() == 2);
  CHECK(bad.problems[0].where == "$HTTPS_PROXY");
  CHECK(bad.problems[0].text().find("hunter2") == std::string::npos);
  CHECK(bad.problems[1].severity == Problem::Severity::warning);
  CHECK_FALSE(load_environment({}, {{"socks4://a"}, {}, ""}).policy);
  CHECK_FALSE(load_environment({}, {{"a"}, {}, "http://x.test"}).policy);
  CHECK_FALSE(load_environment({{"PROXY_TRUSTED_ORIGINS", "10.0.0.0/40"}}).policy);
  CHECK(load_environment({{"http_proxy", "bad host"}}, {{"a"}, {}, ""}).policy);  // not the one in effect
}

TEST_CASE("load: a password never shows, not even from a wrong place") {
  const auto out = load_yaml(
      "proxy:\n  http://user:hunter2@proxy: 1\n  https: {a: hunter2}\n  credentialsFile: /nonexistent\n  exempt: "
      "'http://u:hunter2@x'\n");
  CHECK_FALSE(out.loaded.policy);
  for (const std::string& text : out.texts) CHECK_MESSAGE(text.find("hunter2") == std::string::npos, text);
  const TempFile secret("hunter2-without-colon\n");
  const auto file = load_yaml("proxy: {http: a, credentialsFile: " + secret.path() + "}");
  REQUIRE(file.texts.size() == 1);
  CHECK(file.texts[0].find("hunter2") == std::string::npos);
}

TEST_CASE("describe: the effective configuration loads again and describes itself") {
  const char* samples[] = {
      "proxy: {}",
      "proxy: {http: 'http://us%40er:hunter2@proxy.test:3128', exempt: 'a.test,*.b.test:80,10.0.0.0/8,<local>', ports: "
      "[22, 80]}",
      "proxy: {https: 'https://[fe80::1%25eth0]', all: 'socks5://c', dns: local, udp: block, plainHttp: connect, "
      "connectTimeout: 90s, setuid: direct,"
      " tls: {serverName: x.test, caDirs: ['/etc/\"odd\" dir'], insecureSkipVerify: true}}\n"
      "reverseProxy: {trustedOrigins: [10.0.0.1/8, '::/0'], headers: [Forwarded], proxyProtocol: optional, ports: "
      "[{port: 1, mode: raw}], strip: true, headerTimeout: 1ms0}",
  };
  std::string last = samples[2];
  last.replace(last.find("1ms0"), 4, "250ms");
  for (const std::string& sample : {std::string(samples[0]), std::string(samples[1]), last}) {
    const auto first = load_yaml(sample);
    REQUIRE_MESSAGE(first.loaded.policy, (first.texts.empty() ? "" : first.texts[0]));
    const std::string text = describe(*first.loaded.policy);
    CHECK(text.find("hunter2") == std::string::npos);
    const auto second = load_yaml(text);
    REQUIRE_MESSAGE(second.loaded.policy, text << (second.texts.empty() ? "" : second.texts[0]));
    const std::string again = describe(*second.loaded.policy);
    CHECK(again.substr(again.find('\n')) == text.substr(text.find('\n')));  // all but the source
  }
}

TEST_CASE("load: random YAML does no harm") {
  std::mt19937 random(20240603);
  const std::string whole =
      "coderd:\n  proxy:\n    http: [localhost:3128]\n    exempt: \"a,b\"\n    ports: [80, {a: b}]\n    tls: {caFile: "
      "x}\n"
      "  reverseProxy:\n    trustedOrigins:\n      - 127.0.0.1/8\n    ports: [{port: 1, mode: raw}]\n";
  const std::string alphabet = "{}[]:,-?!&*|>'\"%@` \n\t#~abc\xff";
  for (int round = 0; round < 3000; ++round) {
    std::string text = whole;
    for (unsigned changes = 1 + random() % 6; changes > 0; --changes) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0: text[at] = alphabet[random() % alphabet.size()]; break;
        case 1: text.insert(at, 1, alphabet[random() % alphabet.size()]); break;
        default: text.erase(at, 1 + random() % 4);
      }
      if (text.empty()) text = "a";
    }
    if (round % 10 == 0)
      for (char& c : text) c = static_cast<char>(random());
    const auto out = load_yaml(text);
    REQUIRE((out.loaded.policy == nullptr) == has_error(out.loaded.problems));
    if (out.loaded.policy) REQUIRE_MESSAGE(load_yaml(describe(*out.loaded.policy)).loaded.policy, text);
  }
  CHECK_FALSE(load_yaml(std::string(100000, '[')).loaded.policy);
  CHECK_FALSE(load_yaml("proxy: " + std::string(300, '[') + std::string(300, ']')).loaded.policy);
  std::string doubling = "x0: &x0 [a, a]\n";
  for (int i = 1; i < 40; ++i)
    doubling += "x" + std::to_string(i) + ": &x" + std::to_string(i) + " [*x" + std::to_string(i - 1) + ", *x" +
                std::to_string(i - 1) + "]\n";
  CHECK_FALSE(load_yaml(doubling + "proxy: {exempt: *x39}\n").loaded.policy);
  CHECK(load_yaml(doubling + "proxy: {http: a}\n").loaded.policy);
}
