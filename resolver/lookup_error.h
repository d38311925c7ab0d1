// Why a name has no address.
#pragma once

#include <cstdint>
#include <string_view>

namespace towpath {

enum class LookupError : std::uint8_t {
  none,
  not_found,  // the name does not exist, or has no address of the wanted family
  no_answer,  // silence until the deadline
  refused,    // REFUSED, SERVFAIL, an answer that is none, or no server can be reached
  bad_name,   // cannot be asked: empty, too long, or not a host name
  busy,       // too many lookups at once
};

[[nodiscard]] constexpr std::string_view text_of(LookupError error) noexcept {
  switch (error) {
    case LookupError::none: return "no error";
    case LookupError::not_found: return "the name does not exist or has no such address";
    case LookupError::no_answer: return "the name servers do not answer";
    case LookupError::refused: return "the name servers refuse, fail or cannot be reached";
    case LookupError::bad_name: return "not a usable host name";
    case LookupError::busy: return "too many lookups at once";
  }
  return "";
}

}  // namespace towpath
