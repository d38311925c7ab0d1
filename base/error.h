// What went wrong, where, and which errno a program gets to see for it.
// An Error holds numbers only; text is composed where it is printed.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string_view>

namespace towpath {

enum class Err : std::uint8_t {
#define ERR(name, number, text) name,
#include "base/errors.def"
#undef ERR
};

// The step that failed.
enum class Stage : std::uint8_t { none, config, ask, lookup, connect, tls, http, socks5 };

struct Error {
  Err code = Err::ok;
  Stage stage = Stage::none;
  std::uint16_t peer = 0;  // the other side's own code: HTTP status, SOCKS5 REP
  std::int32_t os = 0;     // errno of the system call that failed, else 0

  explicit operator bool() const noexcept { return code != Err::ok; }
  friend bool operator==(const Error&, const Error&) noexcept = default;
};

// Never 0 for a real error.
[[nodiscard]] int errno_of(const Error& error) noexcept;
[[nodiscard]] std::string_view text_of(Err code) noexcept;
[[nodiscard]] std::string_view name_of(Err code) noexcept;
[[nodiscard]] std::string_view name_of(Stage stage) noexcept;
// "ECONNREFUSED"; "errno" for numbers that towpath never hands out.
[[nodiscard]] std::string_view errno_name(int number) noexcept;

}  // namespace towpath
