#include "base/error.h"

namespace towpath {

int errno_of(const Error& error) noexcept {
  if (error.code == Err::ok) return 0;
  if (error.os != 0) return error.os;
  switch (error.code) {
#define ERR(name, number, text) \
  case Err::name:               \
    return number;
#include "base/errors.def"
#undef ERR
  }
  return EIO;
}

std::string_view text_of(Err code) noexcept {
  switch (code) {
#define ERR(name, number, text) \
  case Err::name:               \
    return text;
#include "base/errors.def"
#undef ERR
  }
  return "unknown error";
}

std::string_view name_of(Err code) noexcept {
  switch (code) {
#define ERR(name, number, text) \
  case Err::name:               \
    return #name;
#include "base/errors.def"
#undef ERR
  }
  return "unknown";
}

std::string_view name_of(Stage stage) noexcept {
  switch (stage) {
    case Stage::none: return "none";
    case Stage::config: return "config";
    case Stage::ask: return "ask";
    case Stage::lookup: return "lookup";
    case Stage::connect: return "connect";
    case Stage::tls: return "tls";
    case Stage::http: return "http";
    case Stage::socks5: return "socks5";
  }
  return "unknown";
}

std::string_view errno_name(int number) noexcept {
  struct Known {
    int number;
    std::string_view name;
  };
#define NAME(x) \
  Known { x, #x }
  static constexpr Known all[] = {
      NAME(EACCES),      NAME(EADDRNOTAVAIL), NAME(EAFNOSUPPORT), NAME(EAGAIN),      NAME(EALREADY),
      NAME(EBADF),       NAME(ECONNABORTED),  NAME(ECONNREFUSED), NAME(ECONNRESET),  NAME(EHOSTUNREACH),
      NAME(EINPROGRESS), NAME(EINTR),         NAME(EINVAL),       NAME(EIO),         NAME(EISCONN),
      NAME(EMFILE),      NAME(ENAMETOOLONG),  NAME(ENETDOWN),     NAME(ENETUNREACH), NAME(ENFILE),
      NAME(ENOBUFS),     NAME(ENOENT),        NAME(ENOMEM),       NAME(ENOTCONN),    NAME(EOPNOTSUPP),
      NAME(EPERM),       NAME(EPIPE),         NAME(EPROTO),       NAME(ETIMEDOUT)};
#undef NAME
  for (const Known& each : all)
    if (each.number == number) return each.name;
  return "errno";  // not one of ours: the caller prints the number beside it
}

}  // namespace towpath
