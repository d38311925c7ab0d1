// YAML text as a plain tree with positions. The only place that knows yaml-cpp, and where its exceptions end.
//
// The tree holds only what leads to `proxy` and `reverseProxy`: an operator's values file is large, shared with
// other readers, and none of our business elsewhere. Size and depth are bounded, aliases included.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"

namespace towpath {

struct Position {
  unsigned line = 1, column = 1;  // 1-based
};

struct Member;

struct Node {
  enum class Kind : std::uint8_t { null, scalar, list, map };

  Kind kind = Kind::null;
  std::string text;  // of a scalar
  Position at;
  std::vector<Node> items;      // of a list
  std::vector<Member> members;  // of a map, in the order of the file, duplicates included

  // null, an empty string, list or map: the chart writes these for "not set".
  [[nodiscard]] bool empty() const noexcept;
  [[nodiscard]] const Node* find(std::string_view key) const noexcept;
};

struct Member {
  std::string key;
  Position at;
  Node value;
};

// The section's name that `key` is a slip of (at most two edits, or the case); "" when it is none, or the name itself.
// The tree keeps such keys, with a null value, at top level and under `coderd`.
[[nodiscard]] std::string_view slip_of(std::string_view key, bool top_level);

// The root is a null node when the file says nothing or cannot be understood; then `problems` says why.
[[nodiscard]] Node parse_document(std::string_view text, std::string_view file, std::vector<Problem>& problems);

// "values.yaml:14:9"
[[nodiscard]] std::string place(std::string_view file, Position at);

}  // namespace towpath
