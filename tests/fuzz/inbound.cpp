// What any bytes of a client must not do to the PROXY header reader and to the walk over forwarded headers. With
// libFuzzer:
//   clang++ -std=c++20 -g -fsanitize=fuzzer,address,undefined -I. tests/fuzz/inbound.cpp base/endpoint.cpp
//     proto/proxy_header.cpp proto/forwarded.cpp proto/http_head.cpp proto/http_body.cpp agent/inbound_head.cpp
// tests/unit/inbound_promises.cpp replays mutated vectors through the same function.
#include <cstdint>
#include <cstdio>

#include "tests/fuzz/inbound.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (const char* broken = towpath::testing::broken_inbound_promise({reinterpret_cast<const char*>(data), size})) {
    std::fprintf(stderr, "broken promise: %s\n", broken);
    __builtin_trap();
  }
  return 0;
}
