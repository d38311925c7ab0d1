// Reading a mapping of the configuration file key by key: who asks for a key makes it known, and what
// nobody asked for is reported with its position and the nearest known key.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/document.h"
#include "config/problem.h"

namespace towpath {

class Section {
 public:
  // Borrows all of it. `path` is "coderd.proxy"; a node that is no mapping is reported here.
  Section(const Node& node, std::string path, std::string_view file, std::vector<Problem>& problems);

  // The value of `key`, or nullptr when it is missing or empty.
  [[nodiscard]] const Node* get(std::string_view key);
  // These report a value of the wrong kind and then return nothing.
  [[nodiscard]] std::optional<std::string> text(std::string_view key);
  [[nodiscard]] std::optional<bool> boolean(std::string_view key);
  [[nodiscard]] std::optional<std::chrono::milliseconds> duration(std::string_view key, std::chrono::milliseconds least,
                                                                  std::chrono::milliseconds most);
  // Index into `words`.
  [[nodiscard]] std::optional<std::size_t> word(std::string_view key, std::span<const std::string_view> words);
  // The same into an enum whose values are the indices; left alone when the key is missing.
  template <class Enum>
  void choice(std::string_view key, std::span<const std::string_view> words, Enum& out) {
    if (const auto index = word(key, words)) out = static_cast<Enum>(*index);
  }
  // Calls `each` with every scalar of a list, or of a comma list in one string, and where it stands.
  void list(std::string_view key, const std::function<void(const std::string& text, const std::string& where)>& each);

  // The same where the value is not a member of this section but of one of its lists.
  void error(const Node& at, std::string_view key, std::string what);
  void warning(const Node& at, std::string_view key, std::string what);
  [[nodiscard]] std::string where(const Node& at, std::string_view key) const;
  [[nodiscard]] std::string path_of(std::string_view key) const { return path_ + "." + std::string(key); }

  // Call when all keys have been asked for: reports unknown and repeated ones.
  void finish();

 private:
  const Node& node_;
  std::string path_;
  std::string_view file_;
  std::vector<Problem>& problems_;
  std::vector<std::string_view> known_;
};

// Without case, long words cut.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);
// A key as it stands in a path; whatever is no ordinary word gets quotes (somebody's URL may be in the wrong place).
[[nodiscard]] std::string shown_key(std::string_view key);
// The one of `known` that a mistyped `word` most likely stands for; "" when none is near.
[[nodiscard]] std::string_view nearest(std::string_view word, std::span<const std::string_view> known);
// "60s", "500ms", "2m"; nullopt without a unit.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) noexcept;
[[nodiscard]] std::string duration_text(std::chrono::milliseconds duration);

}  // namespace towpath
