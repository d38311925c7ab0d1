// From everything an operator can say to one policy, or to the list of all that is wrong with it.
// The only functions of this folder that read files.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/policy.h"
#include "config/problem.h"

namespace towpath {

// From the command line; empty = not given.
struct Overrides {
  std::vector<std::string> http, https;  // in the order of preference
  std::string exempt;
  std::optional<NetMode> net = {};
};

struct Sources {
  std::string file;  // "": $TOWPATH_CONFIG when that is set, else none
  Overrides overrides;
  std::map<std::string, std::string> environment;
  std::string directory = {};  // where relative paths begin; "": where the process is now
};

struct Loaded {
  std::shared_ptr<const Policy> policy;  // null when there is any error
  std::vector<Problem> problems;
  bool configured = false;  // anything at all said about proxies or a reverse proxy (an exempt list alone is not)
  std::vector<std::string> used_environment;  // the proxy variables present: http_proxy, HTTPS_PROXY, ...
  std::vector<std::string> files;             // every file that was read, or could not be: what to watch
};

[[nodiscard]] Loaded load(const Sources& sources);
[[nodiscard]] std::map<std::string, std::string> environment_map(char** envp);

}  // namespace towpath
