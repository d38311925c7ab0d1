// LD_PRELOAD with our library in it, as one program needs it.
//
// Some runtimes insist on being the first library of all (AddressSanitizer's aborts the program otherwise). Ours then
// stands right behind: the runtime calls on what it finds next, which is us. Where such a runtime is in the list
// because we put it there, two separators stand between it and us (loaders skip empty entries): what such a program
// executes may need none, and is spared it.
//
// Compiles into the preloaded library.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace towpath {

// Must this library be the first? By the last part of its path.
[[nodiscard]] bool insists_on_being_first(std::string_view library) noexcept;

// Is `library` an entry of the list?
[[nodiscard]] bool preloads(std::string_view list, std::string_view library) noexcept;

// The list for a program that is linked to `runtime` (none: ""); the order of what others put there stays. Its size; 0:
// no room. `out` must not overlap what is given.
[[nodiscard]] std::size_t preload_list(std::span<char> out, std::string_view list, std::string_view library,
                                       std::string_view runtime) noexcept;

}  // namespace towpath
