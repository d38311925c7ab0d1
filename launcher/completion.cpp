#include "launcher/completion.h"

namespace towpath {

std::string completion_script(const CLI::App&, std::string_view) { return ""; }

}  // namespace towpath
