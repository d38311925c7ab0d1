// A small file as text.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace towpath {

// Nothing when the file cannot be read or holds more than `most` bytes; then `error` says why.
[[nodiscard]] std::optional<std::string> read_text_file(const std::string& path, std::size_t most, std::string& error);

// "No such file or directory": never asks the locale.
[[nodiscard]] std::string system_text(int number);

}  // namespace towpath
