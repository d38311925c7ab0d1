#include "launcher/completion_scripts.h"

namespace towpath {

namespace {

using Kind = CompletedValue::Kind;

constexpr const char* beginning = R"~(# bash completion of towpath, made by: towpath completion bash

# CMD is word $1 of the line: from there on the completion is that command's own, where bash-completion is loaded.
_towpath_program() {
  local word=${COMP_WORDS[COMP_CWORD]}
  if declare -F _comp_command_offset >/dev/null; then
    _comp_command_offset "$1"
  elif declare -F _command_offset >/dev/null; then
    _command_offset "$1"
  else
    compopt -o filenames 2>/dev/null
    if (($1 == COMP_CWORD)) && [[ $word != */* ]]; then
      mapfile -t COMPREPLY < <(compgen -c -- "$word" | sort -u)
    else
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
  fi
}

_towpath_names() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}

_towpath_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_towpath() {
  COMPREPLY=()
  # Bash cuts words at ":" and "=": what has no blank in between is put together again. `at`: where each begins.
  local rest=$COMP_LINE word i words=() at=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((i == 0)) || [[ -z $rest || $rest == [[:space:]]* ]]; then
      words+=("$word") at+=("$i")
      rest=${rest#"${rest%%[![:space:]]*}"}
    else
      words[${#words[@]} - 1]+=$word
    fi
    rest=${rest#"$word"}
  done
  local last=$((${#words[@]} - 1))
  local current=${words[last]} command=${words[1]} options='' takes='' program=''
)~";

constexpr const char* middle = R"~(
  # Whose value is being written, if any's; and where CMD begins.
  local option='' n
  for ((n = 2; n < last; n++)); do
    word=${words[n]}
    if [[ -n $option ]]; then option=''
    elif [[ $takes == *" $word "* ]]; then option=$word
    elif [[ -n $program && $word == -- ]]; then _towpath_program "${at[n + 1]}"; return
    elif [[ -n $program && $word != -* ]]; then _towpath_program "${at[n]}"; return
    fi
  done
  local value=$current
  if [[ -z $option && $current == --*=* ]]; then option=${current%%=*} value=${current#*=}; fi
)~";

std::string completed(const CompletedValue& value) {
  switch (value.kind) {
    case Kind::file: return "_towpath_names -f \"$value\"";
    case Kind::directory: return "_towpath_names -d \"$value\"";
    case Kind::words: return "_towpath_words '" + joined_words(value.words) + "' \"$value\"";
    case Kind::program: return "_towpath_program \"${at[last]}\"";
    case Kind::none:
    case Kind::unknown: break;
  }
  return ":";
}

}  // namespace

std::string bash_completion(const CompletedCommand& top, const std::vector<CompletedCommand>& commands) {
  std::vector<std::string> first;
  for (const CompletedCommand& command : commands) first.push_back(command.name);
  for (const CompletedOption& option : top.options)
    for (const std::string& name : spellings(option)) first.push_back(name);

  std::string out = beginning;
  out += "  if ((last == 1)); then _towpath_words '" + joined_words(first) + "' \"$current\"; return; fi\n";
  out += "  case $command in\n";
  for (const CompletedCommand& command : commands) {
    std::vector<std::string> all, taking;
    for (const CompletedOption& option : command.options)
      for (const std::string& name : spellings(option)) {
        all.push_back(name);
        if (option.value.kind != Kind::none) taking.push_back(name);
      }
    out += "    " + command.name + ") options='" + joined_words(all) + "' takes=' " + joined_words(taking) + " '" +
           (command.positional.kind == Kind::program ? " program=yes" : "") + " ;;\n";
  }
  out += "    *) return ;;\n  esac\n";
  out += middle;
  out += "  case $command:$option in\n";
  for (const CompletedCommand& command : commands) {
    for (const CompletedOption& option : command.options) {
      if (option.value.kind == Kind::none || option.value.kind == Kind::unknown) continue;
      std::vector<std::string> patterns;
      for (const std::string& name : spellings(option)) patterns.push_back(command.name + ":" + name);
      out += "    " + joined_words(patterns, " | ") + ") " + completed(option.value) + " ;;\n";
    }
    out += "    " + command.name +
           ":)\n      if [[ $current == -* ]]; then _towpath_words \"$options\" \"$current\"\n" + "      else " +
           completed(command.positional) + "\n      fi\n      ;;\n";
  }
  return out + "  esac\n}\n\ncomplete -F _towpath towpath\n";
}

}  // namespace towpath
