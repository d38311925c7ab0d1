#include "config/document.h"

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "config/section.h"

namespace towpath {

namespace {

constexpr std::array<std::string_view, 2> sections = {"proxy", "reverseProxy"};

struct TooLarge : std::runtime_error {
  using std::runtime_error::runtime_error;
};

Position position_of(const YAML::Mark& mark) {
  return mark.is_null() ? Position{}
                        : Position{static_cast<unsigned>(mark.line) + 1, static_cast<unsigned>(mark.column) + 1};
}

// Copies a tree. An alias is copied as often as it is used and may contain itself, so both the number
// of nodes and their depth are limited.
class Copier {
 public:
  Node copy(const YAML::Node& from, unsigned depth = 0) {
    if (depth > 16 || ++copied_ > 100'000) throw TooLarge("nested too deeply or too large");
    Node out;
    out.at = position_of(from.Mark());
    if (from.IsScalar()) {
      out.kind = Node::Kind::scalar;
      out.text = from.Scalar();
    } else if (from.IsSequence()) {
      out.kind = Node::Kind::list;
      for (const auto& item : from) out.items.push_back(copy(item, depth + 1));
    } else if (from.IsMap()) {
      out.kind = Node::Kind::map;
      for (const auto& pair : from) out.members.push_back(member(pair.first, pair.second, depth + 1));
    }
    return out;
  }

  // A map of which only `wanted` keys matter, and slips of theirs.
  Node copy_only(const YAML::Node& from, std::initializer_list<std::string_view> wanted) {
    if (!from.IsMap()) return copy_scalar_or_list(from);
    Node out;
    out.kind = Node::Kind::map;
    out.at = position_of(from.Mark());
    for (const auto& pair : from) {
      if (!pair.first.IsScalar()) continue;
      const std::string& key = pair.first.Scalar();
      if (std::find(wanted.begin(), wanted.end(), key) == wanted.end()) {
        if (!slip_of(key, wanted.size() > sections.size()).empty())
          out.members.push_back({key, position_of(pair.first.Mark()), {}});
        continue;
      }
      if (key == "coderd")
        out.members.push_back(
            {key, position_of(pair.first.Mark()), copy_only(pair.second, {sections[0], sections[1]})});
      else out.members.push_back(member(pair.first, pair.second, 1));
    }
    return out;
  }

 private:
  Member member(const YAML::Node& key, const YAML::Node& value, unsigned depth) {
    return {key.IsScalar() ? key.Scalar() : "(no plain key)", position_of(key.Mark()), copy(value, depth)};
  }

  // Where a map was expected: what it is matters, its content does not.
  static Node copy_scalar_or_list(const YAML::Node& from) {
    Node out;
    out.at = position_of(from.Mark());
    if (from.IsScalar()) out.kind = Node::Kind::scalar, out.text = from.Scalar();
    else if (from.IsSequence()) out.kind = Node::Kind::list, out.items.resize(from.size() > 0 ? 1 : 0);
    return out;
  }

  std::size_t copied_ = 0;
};

// Looks at the documents of a file without building them. LoadAll() would never end on a stray "," before the
// first key: the parser answers with one empty document after another and reads nothing (yaml-cpp 0.7 and 0.8).
class Documents : public YAML::EventHandler {
 public:
  [[nodiscard]] static std::optional<Problem> check(const std::string& text, std::string_view file) {
    std::istringstream in(text);
    YAML::Parser parser(in);
    Documents documents;
    while (parser.HandleNextDocument(documents)) {
      const std::string where = place(file, position_of(documents.start_));
      if (documents.stuck_) return Problem{Problem::Severity::error, where, "not valid YAML: unexpected character"};
      if (documents.later_filled_)
        return Problem{Problem::Severity::error, where, "more than one YAML document in the file"};
    }
    return std::nullopt;
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    stuck_ = count_++ > 0 && mark.pos == start_.pos;
    start_ = mark;
  }
  void OnDocumentEnd() override { later_filled_ = !std::exchange(empty_, true) && count_ > 1; }
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override { empty_ = false; }
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override { empty_ = false; }
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    empty_ = false;
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    empty_ = false;
  }
  void OnMapEnd() override {}

 private:
  YAML::Mark start_;
  unsigned count_ = 0;
  bool stuck_ = false, empty_ = true, later_filled_ = false;
};

Node parse(std::string_view text, std::string_view file, std::vector<Problem>& problems) {
  // With the end written out, a quote that nobody closed cannot swallow the rest of the file unnoticed.
  const std::string ended = std::string(text) + (text.ends_with('\n') ? "...\n" : "\n...\n");
  if (auto problem = Documents::check(ended, file)) {
    problems.push_back(std::move(*problem));
    return {};
  }
  return Copier().copy_only(YAML::Load(ended), {"coderd", sections[0], sections[1]});
}

}  // namespace

bool Node::empty() const noexcept {
  switch (kind) {
    case Kind::null: return true;
    case Kind::scalar: return text.empty();
    case Kind::list: return items.empty();
    case Kind::map: return members.empty();
  }
  return true;
}

const Node* Node::find(std::string_view key) const noexcept {
  for (const Member& member : members)
    if (member.key == key) return &member.value;
  return nullptr;
}

std::string place(std::string_view file, Position at) {
  return std::string(file) + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
}

std::string_view slip_of(std::string_view key, bool top_level) {
  for (const std::string_view name : {sections[0], sections[1], std::string_view("coderd")}) {
    if (name == key) return {};
    if (name == "coderd" && !top_level) continue;
    if (key.size() <= name.size() + 2 && name.size() <= key.size() + 2 && edit_distance(key, name) <= 2) return name;
  }
  return {};
}

Node parse_document(std::string_view text, std::string_view file, std::vector<Problem>& problems) {
  const auto fail = [&](Position at, const std::string& what) {
    problems.push_back({Problem::Severity::error, place(file, at), what});
    return Node{};
  };
  if (text.find('\0') != text.npos) return fail({}, "not a text file: it holds NUL bytes");
  try {
    return parse(text, file, problems);
  } catch (const YAML::Exception& error) {
    return fail(position_of(error.mark), "not valid YAML: " + error.msg);
  } catch (const std::exception& error) {
    return fail({}, std::string("cannot be read as YAML: ") + error.what());
  }
}

}  // namespace towpath
