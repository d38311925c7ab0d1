// May a configuration that was read anew take the place of the running one, and what of it?
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/load.h"

namespace towpath {

struct Reconsidered {
  std::shared_ptr<const Policy> policy;    // null: the running one stays
  std::string refused;                     // why; "" with no policy: nothing has changed
  std::vector<std::string> changes;        // in words
  std::vector<std::string> at_next_start;  // what was said and cannot change in a running tree
  std::vector<std::string> warnings;
  std::vector<std::string> files;  // as in Loaded: what to watch, whether it could be used or not
};

// `inbound_possible`: the tree was started with a reverse proxy, so its programs ask about what they accept.
//
// Refused are errors, and what switches all proxies or the reverse proxy off: a file that is being written, or
// was emptied, would send everything direct, and show every client as the ingress.
[[nodiscard]] Reconsidered reconsider(const Policy& running, bool inbound_possible, const Sources& sources);

// "a; b; c", cut at a length that fits into a line of the log.
[[nodiscard]] std::string in_one_line(const std::vector<std::string>& words);

}  // namespace towpath
