// What proxies said to CONNECT to port 80, each for ten minutes: an operator who changes a proxy's rules need not
// restart anything. Pure: the caller brings the time.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "config/proxy_url.h"

namespace towpath {

class PlainMemory {
 public:
  static constexpr std::uint64_t lifetime_ms = 10 * 60 * 1000;
  enum class Answer : std::uint8_t { unknown, granted, refused };

  // Of this proxy with these credentials.
  [[nodiscard]] Answer of(const ProxyUrl& proxy, std::uint64_t now_ms);
  void granted(const ProxyUrl& proxy, std::uint64_t now_ms);
  // A proxy that has granted one in its lifetime refuses the destination and not the port: that is not remembered.
  void refused(const ProxyUrl& proxy, std::uint64_t now_ms);

 private:
  struct Entry {
    Answer answer;
    std::uint64_t until_ms;
  };
  std::unordered_map<std::string, Entry> entries_;  // as many as the policies have proxies
};

}  // namespace towpath
