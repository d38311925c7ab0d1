// The three shells' scripts, from what completion.cpp read out of the parser. One file for each shell.
#pragma once

#include <string>
#include <vector>

namespace towpath {

struct CompletedValue {
  enum class Kind {
    none,     // takes no value
    unknown,  // takes one that nobody can guess: HOST:PORT, a URL
    file,
    directory,
    words,    // one of `words`
    program,  // a command line of its own
  };
  Kind kind = Kind::none;
  std::vector<std::string> words;
};

struct CompletedOption {
  std::vector<std::string> short_names, long_names;  // without dashes
  std::string summary;
  CompletedValue value;
};

struct CompletedCommand {
  std::string name, summary;
  std::vector<CompletedOption> options;
  CompletedValue positional;
};

// `top`: the options that stand alone (--version).
[[nodiscard]] std::string bash_completion(const CompletedCommand& top, const std::vector<CompletedCommand>& commands);
[[nodiscard]] std::string zsh_completion(const CompletedCommand& top, const std::vector<CompletedCommand>& commands);
[[nodiscard]] std::string fish_completion(const CompletedCommand& top, const std::vector<CompletedCommand>& commands);

// "-c", "--config"
[[nodiscard]] inline std::vector<std::string> spellings(const CompletedOption& option) {
  std::vector<std::string> out;
  for (const std::string& each : option.short_names) out.push_back("-" + each);
  for (const std::string& each : option.long_names) out.push_back("--" + each);
  return out;
}

[[nodiscard]] inline std::string joined_words(const std::vector<std::string>& words, const char* between = " ") {
  std::string out;
  for (const std::string& each : words) out += (out.empty() ? "" : between) + each;
  return out;
}

}  // namespace towpath
