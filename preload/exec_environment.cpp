#include "preload/exec_environment.h"

#include <cstring>

#include <sys/mman.h>

#include "base/preload_list.h"
#include "base/sys.h"

namespace towpath {

namespace {

constexpr std::string_view preload_variable = "LD_PRELOAD";

bool names(const char* entry, std::string_view name) noexcept {
  const std::string_view text(entry);
  return text.size() > name.size() && text.starts_with(name) && text[name.size()] == '=';
}

std::size_t occurrences(char* const* environment, std::string_view name) noexcept {
  std::size_t count = 0;
  for (; *environment != nullptr; ++environment) count += names(*environment, name) ? 1 : 0;
  return count;
}

}  // namespace

const char* value_in(char* const* environment, std::string_view name) noexcept {
  for (; environment != nullptr && *environment != nullptr; ++environment)
    if (names(*environment, name)) return *environment + name.size() + 1;
  return nullptr;
}

ExecEnvironment::ExecEnvironment(char* const* given) noexcept : out_(given) {
  static char* const nothing[] = {nullptr};
  if (given == nullptr) out_ = given = nothing;
  if (!active()) return;
  std::size_t count = 0;
  while (given[count] != nullptr) ++count;
  const std::string_view library = own_path();
  const bool has_library = library.empty() || (occurrences(given, preload_variable) == 1 &&
                                               preloads(value_in(given, preload_variable), library));
  AgentAddress agent;
  agent_address(agent);
  bool has_agent = false;
  if (agent.standalone) {
    for (std::size_t i = 0; i < count && !has_agent; ++i) {
      std::string_view name(given[i]);
      if (const auto end = name.find('='); end != name.npos && end + 1 < name.size()) {
        name.remove_suffix(name.size() - end);
        has_agent = configures(name);
      }
    }
  } else {
    char text[most_control_text];
    const std::size_t size = control_text(text);
    const char* const value = value_in(given, wire::control_variable);
    has_agent =
        occurrences(given, wire::control_variable) == 1 && std::string_view(value) == std::string_view(text, size);
  }
  net_size_ = net_text(net_);
  const char* const net = value_in(given, net_variable);
  const bool has_net = net_size_ == 0 || (occurrences(given, net_variable) == 1 &&
                                          std::string_view(net) == net_ + net_variable.size() + 1);
  if (has_library && has_agent && has_net) return;
  copy(given, count);
  if (own_ == nullptr) return;
  changed_ = true;
  if (!has_library) add_preload(given);
  if (!has_agent) add_agent(given);
  if (!has_net && out_ != nullptr) {
    drop(net_variable);
    add(net_);
  }
}

ExecEnvironment::~ExecEnvironment() {
  if (mapped_ != 0) sys::call(SYS_munmap, own_, mapped_);
}

void ExecEnvironment::copy(char* const* given, std::size_t count) noexcept {
  own_ = stack_;
  if (count > most) {
    mapped_ = (count + 32) * sizeof(char*);
    const long at = sys::call(SYS_mmap, 0, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    own_ = at < 0 && at > -4096 ? nullptr : reinterpret_cast<char**>(at);
    if (own_ == nullptr) mapped_ = 0;
  }
  out_ = own_;
  if (own_ == nullptr) return;
  for (std::size_t i = 0; i < count; ++i) own_[size_++] = given[i];
  own_[size_] = nullptr;
}

void ExecEnvironment::add(char* variable) noexcept {
  if (own_ == nullptr) {
    char* const* given = out_;
    std::size_t count = 0;
    while (given[count] != nullptr) ++count;
    copy(given, count);
    if (own_ == nullptr) return;
  }
  own_[size_++] = variable;
  own_[size_] = nullptr;
}

void ExecEnvironment::drop(std::string_view name) noexcept {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < size_; ++i)
    if (!names(own_[i], name)) own_[kept++] = own_[i];
  own_[size_ = kept] = nullptr;
}

void ExecEnvironment::hide_library() noexcept {
  if (out_ == nullptr || own_path().empty()) return;
  const char* const list = value_in(out_, preload_variable);
  if (list == nullptr || !preloads(list, own_path())) return;
  if (own_ == nullptr) {
    std::size_t count = 0;
    while (out_[count] != nullptr) ++count;
    copy(out_, count);
    if (own_ == nullptr) return;
  }
  // Others' entries would not be found there either, where they are paths: the whole variable goes.
  drop(preload_variable);
}

// In front of what the program wants to be preloaded, and behind what insists on being the first.
void ExecEnvironment::add_preload(char* const* given) noexcept {
  const char* const before = value_in(given, preload_variable);
  set_preload(before != nullptr ? before : "", {});
}

void ExecEnvironment::set_preload(std::string_view list, std::string_view runtime) noexcept {
  char fresh[sizeof preload_];  // the list may be the one of before
  std::memcpy(fresh, preload_variable.data(), preload_variable.size());
  fresh[preload_variable.size()] = '=';
  constexpr std::size_t head = preload_variable.size() + 1;
  const std::size_t size = preload_list({fresh + head, sizeof fresh - head - 1}, list, own_path(), runtime);
  if (size == 0) {
    out_ = nullptr;  // fail closed: executed without the library it would go around the proxy
    return;
  }
  fresh[head + size] = '\0';
  const char* const now = value_in(out_, preload_variable);
  if (now != nullptr && std::string_view(now) == std::string_view(fresh + head, size)) return;
  if (own_ == nullptr) {
    std::size_t count = 0;
    while (out_[count] != nullptr) ++count;
    copy(out_, count);
    if (own_ == nullptr) return;
  }
  changed_ = true;
  std::memcpy(preload_, fresh, head + size + 1);
  drop(preload_variable);
  add(preload_);
}

void ExecEnvironment::fit(const ProgramFile& program) noexcept {
  if (out_ == nullptr || own_path().empty()) return;
  const char* const list = value_in(out_, preload_variable);
  if (list != nullptr && preloads(list, own_path())) set_preload(list, program.runtime);
}

void ExecEnvironment::add_agent(char* const*) noexcept {
  AgentAddress agent;
  agent_address(agent);
  if (agent.standalone) {
    for (const char* const* each = saved_configuration(); *each != nullptr; ++each) add(const_cast<char*>(*each));
    return;
  }
  std::memcpy(control_, wire::control_variable.data(), wire::control_variable.size());
  control_[wire::control_variable.size()] = '=';
  char* const text = control_ + wire::control_variable.size() + 1;
  const std::size_t size = control_text(std::span<char, most_control_text>(text, most_control_text));
  text[size] = '\0';
  drop(wire::control_variable);  // of whomever
  if (size != 0) add(control_);
  else out_ = nullptr;
}

}  // namespace towpath
