// Completion of towpath's command line, as a script for a shell. Made by walking the parser, so that it knows every
// command and option that the parser knows. What is completed follows from a value's type name: FILE, DIR, COMMAND, the
// members of a list, CMD (a command, and from there on that command's own completion); anything else is the reader's.
#pragma once

#include <string>
#include <string_view>

#include "launcher/command_line.h"

namespace towpath {

// `shell`: bash, zsh or fish.
[[nodiscard]] std::string completion_script(const CLI::App& app, std::string_view shell);

}  // namespace towpath
