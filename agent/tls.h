// TLS towards an https:// proxy. OpenSSL lives here and nowhere else, and nothing of the machine's OpenSSL
// configuration is loaded: a static OpenSSL would bring in modules of the image (tests/integration/test_tls_proxy.py).
//
// Verification as Go does it: names against subjectAltName only, IP literals against iPAddress entries and without
// SNI, a trailing dot removed. Only http/1.1 is offered by ALPN, since the proxy is spoken to in HTTP/1.1.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/error.h"
#include "config/policy.h"

using SSL = struct ssl_st;
using SSL_CTX = struct ssl_ctx_st;
using SSL_SESSION = struct ssl_session_st;

namespace towpath {

// One TLS connection over a non-blocking descriptor that it borrows.
class TlsChannel {
 public:
  enum class Step : std::uint8_t { done, wants_read, wants_write, closed, failed };
  struct Moved {
    Step step;  // done: `size` bytes
    std::size_t size;
  };

  explicit TlsChannel(SSL* adopted) noexcept : ssl_(adopted) {}

  [[nodiscard]] Step handshake() noexcept;
  // Looks without taking, so that a reader can stop exactly at the end of a message.
  [[nodiscard]] Moved peek(void* to, std::size_t size) noexcept;
  [[nodiscard]] Moved read(void* to, std::size_t size) noexcept;
  [[nodiscard]] Moved write(const void* from, std::size_t size) noexcept;
  // Sends close_notify; reading goes on.
  [[nodiscard]] Step shut_down() noexcept;
  // Of a handshake that is done: "TLSv1.3".
  [[nodiscard]] std::string version() const;
  // How long the peer's certificate is valid yet; 0 when there is none or it has expired.
  [[nodiscard]] std::int64_t certificate_seconds() const noexcept;
  // Of a handshake that failed.
  [[nodiscard]] Error error() const noexcept { return error_; }
  // Also of a session that failed later; "" when the connection did, or nothing has.
  [[nodiscard]] const std::string& why() const noexcept { return why_; }

 private:
  struct Free {
    void operator()(SSL* ssl) const noexcept;
  };
  Step step_of(int result) noexcept;
  [[nodiscard]] bool inside_record() const noexcept;

  std::unique_ptr<SSL, Free> ssl_;
  Error error_;
  std::string why_;
};

class TlsClient {
 public:
  // Null with the reason when the settings cannot be used (a CA file that holds no certificate, a key that does not
  // fit, ...): nothing is then connected.
  [[nodiscard]] static std::unique_ptr<TlsClient> create(const TlsSettings& settings, std::string& why);

  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;
  // Channels may outlive it; their sessions are then not kept.
  ~TlsClient();

  // A connection to that proxy over `fd`; resumes the last session when there is one.
  [[nodiscard]] std::unique_ptr<TlsChannel> open(const ProxyUrl& proxy, int fd);

 private:
  struct FreeContext {
    void operator()(SSL_CTX* context) const noexcept;
  };
  struct FreeSession {
    void operator()(SSL_SESSION* session) const noexcept;
  };
  TlsClient() = default;
  bool load_authorities(const TlsSettings& settings, std::string& why);
  bool load_certificate(const TlsSettings& settings, std::string& why);
  static int on_new_session(SSL* ssl, SSL_SESSION* session);

  std::unique_ptr<SSL_CTX, FreeContext> context_;
  std::unordered_map<std::string, std::unique_ptr<SSL_SESSION, FreeSession>> sessions_;  // by proxy
  std::string server_name_;
};

}  // namespace towpath
