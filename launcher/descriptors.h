// Descriptors of the launcher's own processes: which to have, which to give up, how many there may be.
#pragma once

#include <string>
#include <vector>

#include <sys/resource.h>

namespace towpath {

// Where the caller closed a standard descriptor, something harmless takes its number, so that no socket of ours gets it
// and is written to. Closed again at exec: the program finds its descriptors as the caller left them.
void occupy_standard_descriptors();

// Something harmless at that number, whatever was there.
void silence(int fd);

// Closes every descriptor but the standard ones and `wanted`: what came from whoever started us is not ours to keep.
void close_all_but(std::vector<int> wanted);

// As many as the hard limit allows.
void raise_descriptor_limit();

// Are these enough for the processes of a run? False with the reason.
[[nodiscard]] bool enough_descriptors(const rlimit& limit, std::string& why);

// Enough stack for an agent, where the caller allows less. False with the reason: the hard limit forbids it.
[[nodiscard]] bool raise_stack_limit(std::string& why);

}  // namespace towpath
