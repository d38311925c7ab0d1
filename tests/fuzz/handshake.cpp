// What any bytes from a proxy must not do to the handshake machines. With libFuzzer:
//   clang++ -std=c++20 -g -fsanitize=fuzzer,address,undefined -I. tests/fuzz/handshake.cpp
//     base/*.cpp proto/http_connect.cpp proto/http_refusal.cpp proto/socks5.cpp
// tests/unit/proto_promises.cpp replays mutated vectors through the same function.
#include <cstdint>
#include <cstdio>

#include "proto/ascii.h"
#include "proto/http_connect.h"
#include "proto/socks5.h"
#include "tests/unit/proto_drive.h"

namespace towpath::testing {

inline bool printable(std::string_view text) {
  for (const char c : text)
    if (!is_graphic(c) && c != ' ') return false;
  return true;
}

inline bool prints(const HttpConnectClient& m) { return printable(m.detail()) && printable(m.auth_schemes()); }
inline bool prints(const Socks5Client&) { return true; }

template <Handshake M>
const char* broken_promise(const ProxyLogin* login, std::string_view stream, std::size_t cut) {
  const TargetView target{"example.com", {}, 443};
  M machine(target, login), bytewise(target, login), halved(target, login);
  const Driven whole = drive_whole(machine, stream);
  if (whole.broken != nullptr) return whole.broken;
  if (drive_bytes(bytewise, stream) != whole) return "byte by byte is not the same as whole";
  if (drive_cut(halved, stream, cut) != whole) return "in two parts is not the same as whole";
  for (M* m : {&machine, &bytewise, &halved}) {
    const Want end = m->peer_closed();
    if (end != Want::failed && (end != Want::finished || whole.want != Want::finished))
      return "the peer closed without consequence";
    if ((end == Want::failed) != static_cast<bool>(m->error())) return "failed without an error, or not";
    if (m->error() != machine.error()) return "the end depends on the parts";
    if (!prints(*m)) return "not printable";
  }
  return nullptr;
}

// Byte 0: which machine, with or without login. Byte 1: where the second half starts.
inline const char* broken_promise(std::span<const std::uint8_t> input) {
  if (input.size() < 2) return nullptr;
  const ProxyLogin login{"user", "password"};
  const ProxyLogin* const given = (input[0] & 1) != 0 ? &login : nullptr;
  const std::string_view stream{reinterpret_cast<const char*>(input.data()) + 2, input.size() - 2};
  const std::size_t cut = input[1] % (stream.size() + 1);
  if ((input[0] & 2) != 0) return broken_promise<Socks5Client>(given, stream, cut);
  return broken_promise<HttpConnectClient>(given, stream, cut);
}

}  // namespace towpath::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (const char* broken = towpath::testing::broken_promise({data, size})) {
    std::fprintf(stderr, "broken promise: %s\n", broken);
    __builtin_trap();
  }
  return 0;
}
