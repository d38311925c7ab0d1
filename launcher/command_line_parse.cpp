// The words of a command line, and what is said of wrong ones.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string_view>

#include <unistd.h>

#include "config/section.h"
#include "config/text.h"
#include "launcher/command_line.h"

namespace towpath {

namespace {

bool is_option(std::string_view word) { return word.size() > 1 && word[0] == '-'; }

std::vector<std::string_view> names_of(const std::vector<const CLI::App*>& commands) {
  std::vector<std::string_view> out;
  for (const CLI::App* each : commands) out.emplace_back(each->get_name());
  return out;
}

std::string joined(const std::vector<std::string_view>& words) {
  std::string out;
  for (const std::string_view word : words) out += (out.empty() ? "" : ", ") + std::string(word);
  return out;
}

bool is_command(const CLI::App& app, std::string_view word) {
  const auto names = names_of(shown_commands(app));
  return std::find(names.begin(), names.end(), word) != names.end();
}

bool looks_like_values_file(const std::string& word) {
  return word.ends_with(".yaml") || word.ends_with(".yml") || access(word.c_str(), F_OK) == 0;
}

std::string unknown_option(const CLI::App& command, std::string_view word) {
  std::vector<std::string> names;
  for (const CLI::Option* option : shown_options(command))
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string_view option = word.substr(0, word.find('='));
  const std::string_view near = option.starts_with("--") ? nearest(option, views) : std::string_view();
  return "unknown option " + std::string(option) +
         (near.empty() ? ": towpath help " + command.get_name() + " lists them"
                       : ", did you mean " + std::string(near) + "?");
}

std::string unexpected(const CLI::App& command, const std::vector<std::string>& rest) {
  const auto option = std::find_if(rest.begin(), rest.end(), [](const std::string& word) { return is_option(word); });
  if (option != rest.end()) return unknown_option(command, *option);
  const std::string& word = rest.front();
  std::string out = "unexpected " + quoted_masked(word);
  if (command.get_option_no_throw("--config") != nullptr && looks_like_values_file(word))
    return out + ", did you mean -c " + word + "?";
  return out + ": towpath help " + command.get_name() + " shows the form";
}

}  // namespace

std::vector<const CLI::App*> shown_commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* one) { return !one->get_group().empty(); });
}

std::vector<const CLI::Option*> shown_options(const CLI::App& command) {
  return command.get_options([](const CLI::Option* one) { return !one->get_group().empty(); });
}

std::vector<std::string> take_program(const CLI::App& app, int& argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "run") return {};
  const CLI::App* run = app.get_subcommand("run");
  int at = 2;
  for (; at < argc; ++at) {
    const std::string word(argv[at]);
    if (word == "--" || !is_option(word)) break;
    const CLI::Option* option = run->get_option_no_throw(word);
    if (option != nullptr && option->get_expected_min() > 0) ++at;
  }
  if (at >= argc) return {};
  const int first = std::string_view(argv[at]) == "--" ? at + 1 : at;
  std::vector<std::string> program(argv + first, argv + argc);
  argc = at;
  return program;
}

std::string wrong_beginning(const CLI::App& app, int argc, char** argv) {
  if (argc < 2) return "no command given: it is one of " + joined(names_of(shown_commands(app)));
  std::string word = argv[1];
  if (!is_option(word)) {
    const auto names = names_of(shown_commands(app));
    // `help rum`: the same mistake one word later.
    const bool of_help = word == "help" && argc > 2 && !is_option(argv[2]);
    const std::string name = of_help ? argv[2] : word;
    if (is_command(app, name)) return "";
    const std::string_view near = nearest(name, names);
    std::string out = "unknown command " + quoted_masked(name);
    if (!near.empty()) return out + ", did you mean " + std::string(near) + "?";
    out += ": it is one of " + joined(names);
    return of_help ? out : out + "; a program is started by towpath run -- CMD";
  }
  if (app.get_option_no_throw(word) != nullptr) return "";
  word = word.substr(0, word.find('='));  // what is behind it may hold a password
  // Options of a command that stand before it.
  for (int at = 2; at < argc; ++at)
    if (is_command(app, argv[at]))
      return "options stand behind the command: towpath " + std::string(argv[at]) + " " + word + " ...";
  return "a command comes first, " + word + " is none: it is one of " + joined(names_of(shown_commands(app)));
}

std::string wrong_rest(const CLI::App& app, const CLI::ParseError& problem) {
  for (const CLI::App* command : app.get_subcommands()) {
    const std::string prefix = command->get_name() + ": ";
    if (problem.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError))
      if (const std::vector<std::string> rest = command->remaining(); !rest.empty())
        return prefix + unexpected(*command, rest);
    return prefix + problem.what() + " (towpath help " + command->get_name() + ")";
  }
  return problem.what();
}

int CommandLine::parse_and_perform(int argc, char** argv) {
  if (const std::string wrong = wrong_beginning(app_, argc, argv); !wrong.empty()) {
    std::fprintf(stderr, "towpath: %s\n", wrong.c_str());
    return exit_towpath_failed;
  }
  program_words_ = take_program(app_, argc, argv);
  try {
    app_.parse(argc, argv);
    for (const Command& command : commands_)
      if (*command.app) return command.perform();
  } catch (const CLI::ParseError& problem) {
    if (problem.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app_.exit(problem);
    std::fprintf(stderr, "towpath: %s\n", wrong_rest(app_, problem).c_str());
  }
  return exit_towpath_failed;
}

int CommandLine::perform(int argc, char** argv) {
  try {
    return parse_and_perform(argc, argv);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "towpath: %s\n", problem.what());
    return exit_towpath_failed;
  }
}

}  // namespace towpath
