// The configuration file: coderd.proxy and coderd.reverseProxy, or the same at top level.
#pragma once

#include <string>
#include <string_view>

#include "config/draft.h"

namespace towpath {

// Reports every problem with its position, not only the first.
void read_file_text(std::string_view text, const std::string& file, Draft& draft);

}  // namespace towpath
