#include <string_view>

#include "launcher/completion_scripts.h"

namespace towpath {

namespace {

using Kind = CompletedValue::Kind;

// Within '...', and within what _arguments and _describe read there.
std::string escaped(const std::string& text, std::string_view special) {
  std::string out;
  for (const char each : text) {
    if (each == '\'') out += "'\\''";
    else if (special.find(each) != special.npos) out += {'\\', each};
    else out += each;
  }
  return out;
}

std::string action(const CompletedValue& value) {
  switch (value.kind) {
    case Kind::file: return "file:_files";
    case Kind::directory: return "directory:_files -/";
    case Kind::words: return "value:(" + joined_words(value.words) + ")";
    case Kind::program: return "command: _command_names -e";
    case Kind::none: break;
    case Kind::unknown: return "value: ";
  }
  return "";
}

// '(-c --config)-c+[values file]:file:_files'
std::string argument_lines(const CompletedCommand& command) {
  std::string out;
  for (const CompletedOption& option : command.options) {
    const auto names = spellings(option);
    for (const std::string& name : names) {
      const bool is_long = name.starts_with("--");
      out += " \\\n    '(" + joined_words(names) + ")" + name;
      if (option.value.kind != Kind::none) out += is_long ? "=" : "+";
      out += "[" + escaped(option.summary, "[]\\:") + "]";
      if (option.value.kind != Kind::none) out += ":" + action(option.value);
      out += "'";
    }
  }
  return out;
}

std::string positional_lines(const CompletedValue& value) {
  if (value.kind == Kind::none) return "";
  std::string out = " \\\n    '" + std::string(value.kind == Kind::program ? "(-)" : "") + "1:" + action(value) + "'";
  if (value.kind == Kind::program) out += " \\\n    '*::arguments: _towpath_program'";
  return out;
}

}  // namespace

std::string zsh_completion(const CompletedCommand& top, const std::vector<CompletedCommand>& commands) {
  std::string out = "#compdef towpath\n# zsh completion of towpath, made by: towpath completion zsh\n\n";
  // _arguments leaves the "--" before CMD in the words.
  out += "_towpath_program() {\n  if [[ $words[1] == -- ]]; then shift words; (( CURRENT-- )); fi\n  _normal\n}\n\n";
  out += "_towpath() {\n  local -a known  # `commands` is zsh's own\n  local command=$words[2]\n  known=(\n";
  for (const CompletedCommand& command : commands)
    out += "    '" + command.name + ":" + escaped(command.summary, "\\:") + "'\n";
  out += "  )\n  if (( CURRENT == 2 )); then\n";
  out += "    if [[ $PREFIX == -* ]]; then\n    _arguments" + argument_lines(top) + "\n    return\n    fi\n";
  out += "    _describe -t commands 'towpath command' known\n    return\n  fi\n";
  out += "  shift words\n  (( CURRENT-- ))\n  case $command in\n";
  for (const CompletedCommand& command : commands)
    out += "  " + command.name + ") _arguments -S :" + argument_lines(command) + positional_lines(command.positional) +
           " ;;\n";
  // Read by `source` or `eval`, or found in $fpath by compinit, which then calls what the file defines.
  return out +
         "  esac\n}\n\nif [[ $funcstack[1] == _towpath ]]; then _towpath \"$@\"; else compdef _towpath towpath; fi\n";
}

}  // namespace towpath
