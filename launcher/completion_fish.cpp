#include <string_view>

#include "launcher/completion_scripts.h"

namespace towpath {

namespace {

using Kind = CompletedValue::Kind;

// Within '...' of fish.
std::string quoted_for_fish(const std::string& text) {
  std::string out = "'";
  for (const char each : text) {
    if (each == '\'' || each == '\\') out += '\\';
    out += each;
  }
  return out + "'";
}

// `@takes@`: the options of `run` that have a value.
constexpr const char* functions = R"~(# fish completion of towpath, made by: towpath completion fish

# The words of CMD before the cursor, one a line, after a first line "CMD"; fails where CMD has not begun.
function __towpath_program_words
    set -l words (commandline -opc)
    test "$words[2]" = @program@; or return 1
    set -l n 3
    set -l ended no
    while test $n -le (count $words)
        switch $words[$n]
            case @takes@
                set n (math $n + 2)
            case --
                set n (math $n + 1)
                set ended yes
                break
            case '-*'
                set n (math $n + 1)
            case '*'
                set ended yes
                break
        end
    end
    test $n -le (math (count $words) + 1); or return 1
    test $ended = no; and string match -q -- '-*' (commandline -ct); and return 1
    echo CMD
    test $n -le (count $words); and string escape -- $words[$n..-1]
    return 0
end

function __towpath_complete_program
    set -l words (__towpath_program_words)
    complete -C (string join ' ' -- $words[2..-1] (commandline -ct))
end

function __towpath_in
    set -l words (commandline -opc)
    test "$words[2]" = $argv[1]; and not __towpath_program_words >/dev/null
end

complete -c towpath -f
)~";

void replace(std::string& text, std::string_view what, const std::string& by) {
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

std::string value_words(const CompletedValue& value) {
  switch (value.kind) {
    case Kind::file: return " -r -F";
    case Kind::directory: return " -x -a '(__fish_complete_directories (commandline -ct))'";
    case Kind::words: return " -x -a '" + joined_words(value.words) + "'";
    case Kind::program:
    case Kind::unknown: return " -x";
    case Kind::none: break;
  }
  return "";
}

std::string option_line(const std::string& condition, const CompletedOption& option) {
  std::string out = "complete -c towpath -n '" + condition + "'";
  for (const std::string& name : option.short_names) out += " -s " + name;
  for (const std::string& name : option.long_names) out += " -l " + name;
  return out + value_words(option.value) + " -d " + quoted_for_fish(option.summary) + "\n";
}

std::string positional_line(const CompletedCommand& command) {
  const std::string condition = "complete -c towpath -n '__towpath_in " + command.name + "'";
  switch (command.positional.kind) {
    case Kind::program: return "complete -c towpath -n __towpath_program_words -x -a '(__towpath_complete_program)'\n";
    case Kind::file: return condition + " -F\n";
    case Kind::directory:
    case Kind::words: return condition + value_words(command.positional) + "\n";
    case Kind::none:
    case Kind::unknown: break;
  }
  return "";
}

}  // namespace

std::string fish_completion(const CompletedCommand& top, const std::vector<CompletedCommand>& commands) {
  std::string out = functions;
  for (const CompletedCommand& command : commands) {
    if (command.positional.kind != Kind::program) continue;
    std::vector<std::string> taking;
    for (const CompletedOption& option : command.options)
      for (const std::string& name : spellings(option))
        if (option.value.kind != Kind::none) taking.push_back(name);
    replace(out, "@program@", command.name);
    replace(out, "@takes@", joined_words(taking));
  }
  const std::string first = "test (count (commandline -opc)) -eq 1";
  for (const CompletedOption& option : top.options) out += option_line(first, option);
  for (const CompletedCommand& command : commands) {
    out +=
        "complete -c towpath -n '" + first + "' -a " + command.name + " -d " + quoted_for_fish(command.summary) + "\n";
    for (const CompletedOption& option : command.options) out += option_line("__towpath_in " + command.name, option);
    out += positional_line(command);
  }
  return out;
}

}  // namespace towpath
