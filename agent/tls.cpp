#include "agent/tls.h"

#include <cerrno>
#include <cstring>

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

namespace towpath {

namespace {

// Where the systems that towpath meets keep their authorities; the first file that is there counts.
constexpr const char* well_known_files[] = {
    "/etc/ssl/certs/ca-certificates.crt",                 // Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",                   // Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",                             // SUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  // CentOS
    "/etc/ssl/cert.pem",                                  // Alpine, BSDs
};
constexpr const char* well_known_directories[] = {"/etc/ssl/certs", "/etc/pki/tls/certs"};

// The text of the newest OpenSSL error; empties the queue.
std::string openssl_text() {
  std::string out = "TLS failed";
  unsigned long code = 0;
  while (const unsigned long next = ERR_get_error()) code = next;
  if (const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr) out = reason;
  return out;
}

bool is_file(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// Every file of a directory whatever its name (OpenSSL itself wants hashed ones). How many could be read.
int load_directory(SSL_CTX* context, const std::string& directory) {
  DIR* list = opendir(directory.c_str());
  if (list == nullptr) return 0;
  int loaded = 0;
  while (const dirent* entry = readdir(list)) {
    const std::string path = directory + "/" + entry->d_name;
    if (is_file(path) && SSL_CTX_load_verify_file(context, path.c_str()) == 1) ++loaded;
  }
  closedir(list);
  ERR_clear_error();
  return loaded;
}

struct FreeBio {
  void operator()(BIO* bio) const noexcept { BIO_free(bio); }
};
using Text = std::unique_ptr<BIO, FreeBio>;

Text text_of(const std::string& text) { return Text(BIO_new_mem_buf(text.c_str(), static_cast<int>(text.size()))); }

// These do with what was read once what OpenSSL's functions for files do. Where nothing could be read, those say why.
bool trust(SSL_CTX* context, const std::string& text, const std::string& file) {
  if (text.empty()) return SSL_CTX_load_verify_file(context, file.c_str()) == 1;
  const Text in = text_of(text);
  STACK_OF(X509_INFO)* const all = in ? PEM_X509_INFO_read_bio(in.get(), nullptr, nullptr, nullptr) : nullptr;
  if (all == nullptr) return false;
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  int known = 0;
  for (int i = 0; i < sk_X509_INFO_num(all); ++i) {
    const X509_INFO* const each = sk_X509_INFO_value(all, i);
    if (each->x509 != nullptr && X509_STORE_add_cert(store, each->x509) == 1) ++known;
    if (each->crl != nullptr && X509_STORE_add_crl(store, each->crl) == 1) ++known;
  }
  sk_X509_INFO_pop_free(all, X509_INFO_free);
  return known > 0;
}

bool use_certificates(SSL_CTX* context, const std::string& text, const std::string& file) {
  if (text.empty()) return SSL_CTX_use_certificate_chain_file(context, file.c_str()) == 1;
  const Text in = text_of(text);
  X509* const own = in ? PEM_read_bio_X509_AUX(in.get(), nullptr, nullptr, nullptr) : nullptr;
  bool ok = own != nullptr && SSL_CTX_use_certificate(context, own) == 1;
  X509_free(own);
  while (X509* const next = ok ? PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr) : nullptr)
    if (SSL_CTX_add0_chain_cert(context, next) != 1) {
      X509_free(next);
      ok = false;
    }
  if (!ok) return false;
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) return false;
  ERR_clear_error();  // that was the end
  return true;
}

bool use_key(SSL_CTX* context, const std::string& text, const std::string& file) {
  if (text.empty()) return SSL_CTX_use_PrivateKey_file(context, file.c_str(), SSL_FILETYPE_PEM) == 1;
  const Text in = text_of(text);
  EVP_PKEY* const key = in ? PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr) : nullptr;
  const bool ok = key != nullptr && SSL_CTX_use_PrivateKey(context, key) == 1;
  EVP_PKEY_free(key);
  return ok;
}

std::string without_dot(std::string name) {
  if (name.ends_with('.')) name.pop_back();
  return name;
}

// False: OpenSSL did not take the name, and would then accept the certificate of any other. (It takes an empty one as
// none.)
bool expect(SSL* ssl, const std::string& host) {
  if (host.empty()) return false;
  if (IpAddress::parse(host))
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.substr(0, host.find('%')).c_str()) == 1;
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set1_host(ssl, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
}

}  // namespace

void TlsChannel::Free::operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
void TlsClient::FreeContext::operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
void TlsClient::FreeSession::operator()(SSL_SESSION* session) const noexcept { SSL_SESSION_free(session); }

std::unique_ptr<TlsClient> TlsClient::create(const TlsSettings& settings, std::string& why) {
  OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, nullptr);
  std::unique_ptr<TlsClient> client(new TlsClient);
  client->context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = client->context_.get();
  if (context == nullptr) {
    why = openssl_text();
    return nullptr;
  }
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // A FIN without close_notify between two records is how many proxies end, and our own direction stays open.
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  constexpr unsigned char alpn[] = "\x08http/1.1";
  SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn - 1);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, &TlsClient::on_new_session);
  SSL_CTX_set_app_data(context, client.get());
  client->server_name_ = settings.server_name;
  if (settings.insecure_skip_verify) {
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
  } else {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    if (!client->load_authorities(settings, why)) return nullptr;
  }
  if (!client->load_certificate(settings, why)) return nullptr;
  return client;
}

bool TlsClient::load_authorities(const TlsSettings& settings, std::string& why) {
  SSL_CTX* context = context_.get();
  bool any = false;
  if (!settings.ca_file.empty()) {
    if (!trust(context, settings.ca_text, settings.ca_file)) {
      why = "no certificate can be read from " + settings.ca_file + ": " + openssl_text();
      return false;
    }
    any = true;
  }
  for (const std::string& directory : settings.ca_dirs) any = load_directory(context, directory) > 0 || any;
  // A file or a list of directories replaces the default of its own kind only, as in Go.
  if (settings.ca_file.empty())
    for (const char* file : well_known_files)
      if (SSL_CTX_load_verify_file(context, file) == 1) {
        any = true;
        break;
      }
  if (!any && settings.ca_dirs.empty())
    for (const char* directory : well_known_directories)
      if (load_directory(context, directory) > 0) {
        any = true;
        break;
      }
  ERR_clear_error();
  if (!any) why = "no certificate authority is known: set proxy.tls.caFile";
  return any;
}

bool TlsClient::load_certificate(const TlsSettings& settings, std::string& why) {
  if (settings.cert_file.empty() && settings.key_file.empty()) return true;
  const std::string& key = settings.key_file.empty() ? settings.cert_file : settings.key_file;
  if (use_certificates(context_.get(), settings.cert_text, settings.cert_file) &&
      use_key(context_.get(), settings.key_file.empty() ? settings.cert_text : settings.key_text, key) &&
      SSL_CTX_check_private_key(context_.get()) == 1)
    return true;
  why = "the client certificate " + settings.cert_file + " with key " + key + " cannot be used: " + openssl_text();
  return false;
}

TlsClient::~TlsClient() {
  if (context_) SSL_CTX_set_app_data(context_.get(), nullptr);  // the context lives as long as its last channel
}

int TlsClient::on_new_session(SSL* ssl, SSL_SESSION* session) {
  auto* self = static_cast<TlsClient*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (self == nullptr) return 0;  // and the key is gone with it
  const auto* key = static_cast<const std::string*>(SSL_get_app_data(ssl));
  if (key == nullptr) return 0;
  self->sessions_[*key].reset(session);
  return 1;  // the reference is ours now
}

std::unique_ptr<TlsChannel> TlsClient::open(const ProxyUrl& proxy, int fd) {
  SSL* ssl = SSL_new(context_.get());
  if (ssl == nullptr || SSL_set_fd(ssl, fd) != 1) {
    SSL_free(ssl);
    return nullptr;
  }
  if (!expect(ssl, without_dot(server_name_.empty() ? proxy.host : server_name_))) {
    SSL_free(ssl);
    return nullptr;
  }
  const auto [at, fresh] = sessions_.try_emplace(proxy.display());
  SSL_set_app_data(ssl, const_cast<std::string*>(&at->first));  // stays where it is: the map is node-based
  if (at->second) SSL_set_session(ssl, at->second.get());
  SSL_set_connect_state(ssl);
  return std::make_unique<TlsChannel>(ssl);
}

// Has a record begun that is not here as a whole? OpenSSL counts the bytes that wait, but not a header already taken.
bool TlsChannel::inside_record() const noexcept {
  return SSL_has_pending(ssl_.get()) != 0 || std::strcmp(SSL_rstate_string(ssl_.get()), "RB") == 0;
}

TlsChannel::Step TlsChannel::step_of(int result) noexcept {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_NONE: return Step::done;
    case SSL_ERROR_WANT_READ: return Step::wants_read;
    case SSL_ERROR_WANT_WRITE: return Step::wants_write;
    case SSL_ERROR_ZERO_RETURN:
      if (!inside_record()) return Step::closed;
      why_ = "the connection ended inside a record";
      return Step::failed;
    case SSL_ERROR_SSL:
      if (why_.empty()) why_ = openssl_text();
      return Step::failed;
    default: return Step::failed;
  }
}

TlsChannel::Step TlsChannel::handshake() noexcept {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  const int failure = errno;
  const unsigned long code = ERR_peek_error();
  const Step step = step_of(result);
  if (step == Step::done || step == Step::wants_read || step == Step::wants_write) return step;
  const long verdict = SSL_get_verify_result(ssl_.get());
  error_ = {Err::tls_failed, Stage::tls};
  if (verdict != X509_V_OK && (SSL_get_verify_mode(ssl_.get()) & SSL_VERIFY_PEER) != 0) {
    error_.code = Err::tls_verification;
    why_ = X509_verify_cert_error_string(verdict);
  } else if (ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER || ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST) {
    error_.code = Err::looks_like_plain;
    why_.clear();
  } else if (step == Step::closed || code == 0) {
    error_.code = Err::closed_early;
    if (step != Step::closed && failure != 0) why_ = std::strerror(failure);
  }
  ERR_clear_error();
  return Step::failed;
}

std::string TlsChannel::version() const { return SSL_get_version(ssl_.get()); }

std::int64_t TlsChannel::certificate_seconds() const noexcept {
  const X509* certificate = SSL_get0_peer_certificate(ssl_.get());
  int days = 0, seconds = 0;
  if (certificate == nullptr || ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate)) != 1)
    return 0;
  const std::int64_t left = std::int64_t{days} * 86400 + seconds;
  return left > 0 ? left : 0;
}

TlsChannel::Moved TlsChannel::peek(void* to, std::size_t size) noexcept {
  std::size_t got = 0;
  ERR_clear_error();
  const int result = SSL_peek_ex(ssl_.get(), to, size, &got);
  return result == 1 ? Moved{Step::done, got} : Moved{step_of(result), 0};
}

TlsChannel::Moved TlsChannel::read(void* to, std::size_t size) noexcept {
  std::size_t got = 0;
  ERR_clear_error();
  const int result = SSL_read_ex(ssl_.get(), to, size, &got);
  return result == 1 ? Moved{Step::done, got} : Moved{step_of(result), 0};
}

TlsChannel::Moved TlsChannel::write(const void* from, std::size_t size) noexcept {
  std::size_t put = 0;
  ERR_clear_error();
  const int result = SSL_write_ex(ssl_.get(), from, size, &put);
  return result == 1 ? Moved{Step::done, put} : Moved{step_of(result), 0};
}

TlsChannel::Step TlsChannel::shut_down() noexcept {
  ERR_clear_error();
  const int result = SSL_shutdown(ssl_.get());
  return result >= 0 ? Step::done : step_of(result);
}

}  // namespace towpath
