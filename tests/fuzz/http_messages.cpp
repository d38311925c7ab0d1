// What any bytes must not do to the HTTP/1 framing. With libFuzzer:
//   clang++ -std=c++20 -g -fsanitize=fuzzer,address,undefined -I. tests/fuzz/http_messages.cpp
//     agent/http_messages.cpp proto/http_head.cpp proto/http_body.cpp
// tests/unit/http_messages.cpp replays mutated streams through the same function.
#include <cstdint>
#include <cstdio>
#include <span>

#include "tests/unit/http_drive.h"

namespace towpath::testing {

// Byte 0: which kind, and what was asked for. Byte 1: where the second half starts.
inline const char* broken_promise_of_http(std::span<const std::uint8_t> input) {
  if (input.size() < 2) return nullptr;
  const HttpKind kind = (input[0] & 1) != 0 ? HttpKind::response : HttpKind::request;
  const std::vector<HttpAsked> asked{{(input[0] & 2) != 0, (input[0] & 4) != 0, (input[0] & 8) != 0}};
  const std::string_view stream{reinterpret_cast<const char*>(input.data()) + 2, input.size() - 2};
  const HttpStory whole = read_whole(kind, asked, stream);
  if (whole.broken != nullptr) return whole.broken;
  if (read_bytes(kind, asked, stream) != whole) return "byte by byte is not the same as whole";
  if (read_cut(kind, asked, stream, input[1] % (stream.size() + 1)) != whole) return "in two parts is not the same";
  return nullptr;
}

}  // namespace towpath::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (const char* broken = towpath::testing::broken_promise_of_http({data, size})) {
    std::fprintf(stderr, "broken promise: %s\n", broken);
    __builtin_trap();
  }
  return 0;
}
