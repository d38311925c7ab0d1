// `towpath run --once`: where towpath is called in a tree that it carries already (an entrypoint inside an entrypoint,
// a wrapped program that a carried shell starts), the program becomes a member of that tree.
#pragma once

#include "launcher/processes.h"

namespace towpath {

enum class Tree {
  none,     // no tree, or one that is gone: whatever the environment says
  joined,   // this process may execute the program as it is
  refused,  // there is one, and it cannot take the program; `why` says what stands against it
};

// After `joined` or `refused` this process may be supervised, so that only the program, or the end, can follow.
[[nodiscard]] Tree join_tree(const Program& program, std::string& why);

}  // namespace towpath
