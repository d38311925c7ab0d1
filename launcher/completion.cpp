#include "launcher/completion.h"

#include <algorithm>

#include "launcher/completion_scripts.h"

namespace towpath {

namespace {

// "{auto,preload}", as CLI::IsMember describes itself behind the type's name.
std::vector<std::string> members(const std::string& type) {
  std::vector<std::string> out;
  const std::size_t open = type.find(":{");
  if (open == type.npos || !type.ends_with('}')) return out;
  std::string rest = type.substr(open + 2, type.size() - open - 3);
  for (std::size_t comma = 0; comma != rest.npos; rest = comma == rest.npos ? "" : rest.substr(comma + 1)) {
    comma = rest.find(',');
    out.push_back(rest.substr(0, comma));
  }
  return out;
}

CompletedValue value_of(const CLI::Option& option, const std::vector<CompletedCommand>& commands) {
  CompletedValue out;
  const std::string type = option.get_type_name();
  if (option.get_expected_max() == 0) return out;
  out.kind = CompletedValue::Kind::unknown;
  if (type == "FILE") out.kind = CompletedValue::Kind::file;
  if (type == "DIR") out.kind = CompletedValue::Kind::directory;
  if (type == "CMD") out.kind = CompletedValue::Kind::program;
  out.words = members(type);
  if (type == "COMMAND")
    for (const CompletedCommand& each : commands) out.words.push_back(each.name);
  if (!out.words.empty()) out.kind = CompletedValue::Kind::words;
  return out;
}

// The help's first clause: a list of completions has no room for more.
std::string summary(const std::string& description) {
  std::size_t end = description.size();
  for (const char* stop : {": ", "; ", " (", ", which"}) end = std::min(end, description.find(stop));
  return description.substr(0, end);
}

void read_options(const CLI::App& app, CompletedCommand& into, const std::vector<CompletedCommand>& commands) {
  for (const CLI::Option* option : shown_options(app)) {
    const CompletedValue value = value_of(*option, commands);
    if (option->nonpositional()) {
      into.options.push_back({option->get_snames(), option->get_lnames(), summary(option->get_description()), value});
    } else {
      into.positional = value;
    }
  }
}

}  // namespace

std::string completion_script(const CLI::App& app, std::string_view shell) {
  std::vector<CompletedCommand> commands;
  for (const CLI::App* each : shown_commands(app))
    commands.push_back({each->get_name(), summary(each->get_description()), {}, {}});
  for (CompletedCommand& command : commands) read_options(*app.get_subcommand(command.name), command, commands);
  CompletedCommand top;
  read_options(app, top, commands);
  if (shell == "zsh") return zsh_completion(top, commands);
  if (shell == "fish") return fish_completion(top, commands);
  return bash_completion(top, commands);
}

}  // namespace towpath
