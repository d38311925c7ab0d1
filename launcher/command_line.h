// The command line as data: commands, their options and help texts, in one place. The help, the completions of shells
// and the tests of the man page are all made from it.
//
// A new command is one function in command_line.cpp, a new option one line there; docs/towpath.1 then wants it too.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/commands.h"

namespace towpath {

class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Reads the words and does what they say: the exit status. Whatever is wrong with them is one line on standard error
  // and exit_towpath_failed.
  [[nodiscard]] int perform(int argc, char** argv);

  [[nodiscard]] const CLI::App& app() const noexcept { return app_; }

 private:
  struct Command {
    const CLI::App* app;
    std::function<int()> perform;
  };

  // `form`: what stands behind the command's name in its usage line. `about`: examples and the like below the options.
  CLI::App* add(const std::string& name, const std::string& summary, const std::string& form, const std::string& about);
  void add_run();
  void add_check();
  void add_explain();
  void add_agent();
  void add_status();
  void add_doctor();
  void add_copy();
  void add_completion();
  void add_help();

  [[nodiscard]] int parse_and_perform(int argc, char** argv);

  CLI::App app_;
  std::vector<Command> commands_;
  std::vector<std::string> program_words_;  // CMD and its arguments, which CLI11 never sees
};

// What people get to see of a command line: neither the help options nor what is for towpath itself.
[[nodiscard]] std::vector<const CLI::App*> shown_commands(const CLI::App& app);
[[nodiscard]] std::vector<const CLI::Option*> shown_options(const CLI::App& command);

// Takes CMD and what follows out of `run [OPTIONS] [--] CMD [ARG...]`: they are none of our business, and CLI11 would
// read "[a,b]" as a list of two. Shortens argc to what is ours.
[[nodiscard]] std::vector<std::string> take_program(const CLI::App& app, int& argc, char** argv);

// What is wrong with words that are no command line of ours, and what was probably meant; "" where the parser is to say
// it. Both without "towpath: " and end of line.
[[nodiscard]] std::string wrong_beginning(const CLI::App& app, int argc, char** argv);
[[nodiscard]] std::string wrong_rest(const CLI::App& app, const CLI::ParseError& problem);

}  // namespace towpath
