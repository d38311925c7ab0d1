// The environment of what a program executes: the library and the way to the agent go along, also where the program
// hands over a cleaned one. Lives on the caller's stack; an exec in a child that shares our memory must not leave
// anything behind.
#pragma once

#include <cstddef>

#include "base/program_file.h"
#include "preload/net.h"
#include "preload/process.h"
#include "preload/standalone.h"

namespace towpath {

class ExecEnvironment {
 public:
  static constexpr std::size_t most = 512;  // variables; a larger environment goes into a mapping

  explicit ExecEnvironment(char* const* given) noexcept;
  // The list of preloaded libraries as this program needs it.
  void fit(const ProgramFile& program) noexcept;
  // Takes the library out again, which no loader there would find.
  void hide_library() noexcept;
  ~ExecEnvironment();
  ExecEnvironment(const ExecEnvironment&) = delete;
  ExecEnvironment& operator=(const ExecEnvironment&) = delete;

  // The given one where nothing was missing. Null: it could not be made (out of memory).
  [[nodiscard]] char* const* get() const noexcept { return out_; }
  // One more, which must live as long; for the shim.
  void add(char* variable) noexcept;
  // Had anything to be added?
  [[nodiscard]] bool changed() const noexcept { return changed_; }

 private:
  void copy(char* const* given, std::size_t count) noexcept;
  void drop(std::string_view name) noexcept;
  void add_preload(char* const* given) noexcept;
  void set_preload(std::string_view list, std::string_view runtime) noexcept;
  void add_agent(char* const* given) noexcept;

  char* const* out_ = nullptr;
  char** own_ = nullptr;
  std::size_t size_ = 0, mapped_ = 0;
  bool changed_ = false;
  char* stack_[most + 32];
  char preload_[AgentPaths::longest];
  char control_[wire::control_variable.size() + 1 + most_control_text + 1];
  char net_[most_net_text];
  std::size_t net_size_ = 0;
};

// The value of NAME in an environment, null when it is not there.
[[nodiscard]] const char* value_in(char* const* environment, std::string_view name) noexcept;

}  // namespace towpath
