#include "launcher/wipe.h"

#include <cstring>
#include <string_view>

#include <strings.h>
#include <unistd.h>

namespace towpath {

namespace {

int word_count = 0;
char** all_words = nullptr;

// "http://user:password@host" keeps its length: the kernel shows the memory that the words began in.
void wipe_value(char* value) noexcept {
  char* const at = std::strrchr(value, '@');
  if (at == nullptr) return;
  char* const scheme = std::strstr(value, "://");
  char* from = scheme != nullptr && scheme < at ? scheme + 3 : value;
  volatile char* to = from;  // not to be optimised away
  for (; to != at; ++to) *to = '*';
}

bool is_proxy_variable(std::string_view entry) noexcept {
  constexpr std::string_view end = "_proxy";
  const auto sign = entry.find('=');
  return sign != entry.npos && sign >= end.size() &&
         strncasecmp(entry.data() + sign - end.size(), end.data(), end.size()) == 0;
}

}  // namespace

void remember_words(int count, char** words) noexcept {
  word_count = count;
  all_words = words;
}

void wipe_credentials() noexcept {
  for (int i = 1; i < word_count; ++i) {
    const std::string_view word(all_words[i]);
    if (word == "--") break;
    if (!word.starts_with("--http")) continue;
    if (char* const sign = std::strchr(all_words[i], '='); sign != nullptr) wipe_value(sign + 1);
    else if (i + 1 < word_count) wipe_value(all_words[++i]);
  }
  for (char** each = environ; each != nullptr && *each != nullptr; ++each)
    if (is_proxy_variable(*each)) wipe_value(std::strchr(*each, '=') + 1);
}

}  // namespace towpath
