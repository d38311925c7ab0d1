// Programs that this library cannot reach from inside: they are put under the agent's seccomp supervision, in this very
// process, before they are executed or before their runtime starts.
#pragma once

#include "base/program_file.h"
#include "trap/enter.h"

namespace towpath {

// Is this process under our own agent's supervision already?
bool is_supervised() noexcept;

// Puts the calling thread, and what it executes, under supervision. False: it could not be done, and a line says why.
bool enter_supervision(std::string_view program, bool go) noexcept;

// Called by the library's constructor, before the program (and a Go runtime) starts: the first process of a tree that
// no launcher has started puts the net beneath itself and all that it executes. A Go program that cannot be supervised
// gets no INET socket any more.
void put_up_net() noexcept;

// What stands in the way of executing a file as it is.
enum class ExecFate : std::uint8_t {
  as_it_is,  // the library goes along, or nothing has to
  filter,    // enter_supervision() first
  hidden,    // the same, and no loader would find the library (a chroot)
  refused,   // nothing can follow it, and a line has said so: EACCES
};
ExecFate fate_of(const ProgramFile& program) noexcept;

}  // namespace towpath
