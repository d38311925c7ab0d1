// What the library has to say, on the program's standard error. It never enters a file of the program: descriptor 2 may
// be closed and given to another one, before the program started or since.
#pragma once

#include <string_view>

namespace towpath {

// From the constructor: what descriptor 2 is at the program's begin is its standard error.
void note_standard_error() noexcept;

// One line: only while descriptor 2 is what it was, and is a terminal, a pipe, a UNIX domain socket or a file that is
// appended to. Else it is lost.
void complain(std::string_view what, std::string_view why) noexcept;
// The same, the first time only: whatever fails after it fails for the same reason.
void complain_once(std::string_view what, std::string_view why) noexcept;

}  // namespace towpath
