#include "agent/failure_text.h"

#include <cstring>

namespace towpath {

namespace {

std::string hint_for(const Failure& f, const std::string& host) {
  const bool unusual_port = f.port != 80 && f.port != 443;
  switch (f.error.code) {
    case Err::wants_credentials:
      if (!f.detail.empty() && f.detail.find("Basic") == std::string::npos)
        return "the proxy offers " + f.detail +
               " only; towpath speaks Basic: put a helper such as cntlm or px in between";
      return "put user:password@ into the proxy's URL, or set credentialsFile";
    case Err::bad_credentials: return "check user and password of the proxy";
    case Err::denied:
      if (f.port == 80 && (f.status == 403 || f.status == 405))
        return "this proxy may tunnel only port 443: plainHttp: connect forbids the other way, set plainHttp: auto, or "
               "allow CONNECT to port 80 at the proxy";
      if (unusual_port) return "add " + host + " to exempt or set ports: [80, 443]";
      return "the proxy's rules decide this: ask its operator, or add " + host + " to exempt";
    case Err::refused: return unusual_port ? "add " + host + " to exempt or set ports: [80, 443]" : "";
    case Err::proxy_unreachable: return "is the proxy running, and is its address right?";
    case Err::proxy_unknown: return "check the proxy's name, and that this machine's name servers know it";
    case Err::family_mismatch: return "give the proxy an address of the family that the program uses";
    case Err::looks_like_http: return "write http:// in the proxy's URL";
    case Err::looks_like_socks: return "write socks5:// in the proxy's URL";
    case Err::looks_like_tls: return "write https:// in the proxy's URL";
    case Err::tls_verification:
      return "set proxy.tls.caFile to the authority that signed the proxy's certificate, or proxy.tls.serverName";
    case Err::tls_failed:
      return f.detail.find("certificate") == std::string::npos
                 ? ""
                 : "set proxy.tls.certFile and proxy.tls.keyFile to what the proxy asks for";
    case Err::closed_early:
      // Most TLS servers close without a word when they are spoken to in the clear.
      return f.proxy != nullptr && f.proxy->scheme == ProxyScheme::http
                 ? "if the proxy speaks TLS, write https:// in its URL"
                 : "";
    case Err::looks_like_plain: return "write http:// in the proxy's URL";
    case Err::no_such_synthetic: return "the program kept this address from an earlier run: restart it";
    case Err::deadline:
      // The attempt calls every handshake Stage::http; a status means that the proxy did answer.
      if (f.proxy != nullptr && f.proxy->scheme == ProxyScheme::socks5 && f.status == 0 &&
          (f.error.stage == Stage::http || f.error.stage == Stage::socks5))
        return "is it really a SOCKS5 proxy? many HTTP proxies stay silent; connectTimeout is how long towpath waits";
      return "connectTimeout is how long towpath waits";
    default: return "";
  }
}

}  // namespace

FailureText explain_failure(const Failure& f) {
  FailureText out;
  out.reason = text_of(f.error.code);
  if (f.error.os != 0) out.reason += std::string(": ") + std::strerror(f.error.os);
  if (f.status != 0 && f.error.code != Err::deadline) {
    const bool socks = f.proxy != nullptr && f.proxy->scheme == ProxyScheme::socks5;
    out.reason += (socks ? " (SOCKS5 reply " : " (status ") + std::to_string(f.status) + ")";
  }
  if (!f.detail.empty()) out.reason += "; it says: " + f.detail;
  if (!f.tried.empty()) out.reason += "; tried before: " + f.tried;
  const auto colon = f.target.rfind(':');
  out.hint = hint_for(f, f.target.substr(0, colon));
  return out;
}

}  // namespace towpath
