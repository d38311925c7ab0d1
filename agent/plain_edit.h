// What a request for port 80 looks like to a proxy that is asked in absolute form (RFC 9112 3.2.2), and its answer to
// a program that knows of no proxy. Text only; the framing of the body is kept as it is.
//
// The target is where the program connected: the name when one is known, and then a Host of another name is kept but
// does not decide (a proxy may replace it). Only a connection to a bare address takes the name from Host, as the
// address alone would lead to the wrong site of a shared server.
#pragma once

#include <string>

#include "agent/http_messages.h"
#include "base/target.h"
#include "proto/handshake.h"

namespace towpath {

class PlainEdit {
 public:
  enum class Way : std::uint8_t {
    forward,  // in absolute form
    upgrade,  // the program asks for another protocol: a tunnel, or forward without that wish
    tunnel,   // CONNECT through the destination: a tunnel, or not at all
    refuse,   // a request for another place than the program connected to
  };

  // `login` may be null; both are borrowed during construction only, and are checked already.
  PlainEdit(const TargetView& target, const ProxyLogin* login);

  [[nodiscard]] Way way_of(const HttpHead& request) const;
  // Of a request whose Host names another place than the one it goes to; for the log.
  [[nodiscard]] bool host_differs(const HttpHead& request) const;

  // All append to `out`.
  void write_request(const HttpHead& request, std::string& out) const;
  // `stays`: the program's connection outlives this answer. Not looked at for an interim one.
  void write_response(const HttpHead& response, bool request_1_1, bool stays, std::string& out) const;
  void write_trailers(const HttpHead& trailers, std::string& out) const;

 private:
  [[nodiscard]] std::string_view authority_for(const HttpHead& request) const;
  [[nodiscard]] bool own(std::string_view authority) const;

  std::string authority_;  // as it stands in a URL; without a port, which is 80
  bool named_;
  std::string authorization_;  // the whole field, or empty
};

}  // namespace towpath
