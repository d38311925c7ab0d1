#include "config/host_name.h"

#include <algorithm>

#include "config/text.h"

#include <idn2.h>

namespace towpath {

namespace {

// Only the UTF-8 entry point of libidn2: the others ask the locale. Nontransitional as browsers and Go
// do it; symbols that IDNA 2008 leaves out (emoji) get the older mapping rather than no name at all.
std::string to_ace(std::string_view name) {
  if (is_ascii(name)) return lower_ascii(name);
  const std::string terminated(name);
  for (const int mapping : {IDN2_NONTRANSITIONAL, IDN2_TRANSITIONAL}) {
    std::uint8_t* ace = nullptr;
    const int result =
        idn2_lookup_u8(reinterpret_cast<const std::uint8_t*>(terminated.c_str()), &ace, IDN2_NFC_INPUT | mapping);
    if (result == IDN2_OK && ace != nullptr) {
      std::string out = lower_ascii(reinterpret_cast<const char*>(ace));
      idn2_free(ace);
      return out;
    }
    if (result != IDN2_DISALLOWED) break;
  }
  return {};
}

bool is_name_character(char c) noexcept { return is_alpha(c) || is_digit(c) || c == '-' || c == '_' || c == '.'; }

}  // namespace

std::string normalise_name(std::string_view name) {
  constexpr std::size_t most = 253;
  // A character of a name takes at most four bytes, and its ACE form at least one.
  if (name.empty() || name.size() > 4 * (most + 1) || has_control(name)) return {};
  std::string out = to_ace(name);
  if (out.ends_with('.')) out.pop_back();
  if (out.empty() || out.size() > most || out.front() == '.' || out.back() == '.') return {};
  if (out.find("..") != out.npos || !std::all_of(out.begin(), out.end(), is_name_character)) return {};
  return out;
}

bool ends_in_number(std::string_view name) noexcept {
  if (name.ends_with('.')) name.remove_suffix(1);
  const std::string_view last = name.substr(name.rfind('.') + 1);  // npos + 1 is 0
  return !last.empty() && std::all_of(last.begin(), last.end(), is_digit);
}

}  // namespace towpath
