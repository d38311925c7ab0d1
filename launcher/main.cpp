// towpath: the command line.
#include <string_view>

#include "launcher/command_line.h"
#include "launcher/commands.h"
#include "launcher/descriptors.h"
#include "launcher/wipe.h"

int main(int argc, char** argv) {
  // Not for people, and on the path of every exec: before anything else.
  if (argc > 1 && std::string_view(argv[1]) == "enter") return towpath::enter_command(argv + 2);
  towpath::remember_words(argc, argv);
  towpath::occupy_standard_descriptors();
  return towpath::CommandLine().perform(argc, argv);
}
