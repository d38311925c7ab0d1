// The two sections of the configuration file. Each reports all of its problems with their positions.
#pragma once

#include <string>

#include "config/document.h"
#include "config/draft.h"

namespace towpath {

// `path` is "coderd.proxy" or "proxy"; `file` is for messages.
void read_proxy_section(const Node& node, const std::string& path, const std::string& file, Draft& draft);
void read_reverse_section(const Node& node, const std::string& path, const std::string& file, Draft& draft);

}  // namespace towpath
