#include "config/section.h"

#include <algorithm>

#include "config/text.h"

namespace towpath {

using std::chrono::milliseconds;

namespace {

std::string joined(std::span<const std::string_view> words) {
  std::string out;
  for (const std::string_view word : words) out += (out.empty() ? "" : ", ") + std::string(word);
  return out;
}

}  // namespace

std::string shown_key(std::string_view key) {
  const bool word = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return is_alpha(c) || is_digit(c) || c == '_' || c == '-';
  });
  return word ? std::string(key) : quoted_masked(key);
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  const std::string from = lower_ascii(a.substr(0, 64)), to = lower_ascii(b.substr(0, 64));
  std::vector<std::size_t> row(to.size() + 1);  // one row at a time
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j < row.size(); ++j) {
      const std::size_t change = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({change, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row.back();
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, std::min<std::size_t>(word.size(), 64) / 2) + 1;
  for (const std::string_view candidate : known)
    if (const std::size_t distance = edit_distance(word, candidate); distance < best_distance)
      best = candidate, best_distance = distance;
  return best;
}

std::optional<milliseconds> parse_duration(std::string_view text) noexcept {
  const std::size_t unit_at = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view unit = text.substr(unit_at);
  const auto number = parse_number(text.substr(0, unit_at), 100'000'000);
  if (!number) return std::nullopt;
  if (unit == "ms") return milliseconds(*number);
  if (unit == "s") return std::chrono::seconds(*number);
  if (unit == "m") return std::chrono::minutes(*number);
  return std::nullopt;
}

std::string duration_text(milliseconds duration) {
  const auto count = duration.count();
  if (count % 60'000 == 0 && count != 0) return std::to_string(count / 60'000) + "m";
  return count % 1'000 == 0 ? std::to_string(count / 1'000) + "s" : std::to_string(count) + "ms";
}

Section::Section(const Node& node, std::string path, std::string_view file, std::vector<Problem>& problems)
    : node_(node), path_(std::move(path)), file_(file), problems_(problems) {
  if (node.kind != Node::Kind::map && !node.empty())
    problems_.push_back(
        {Problem::Severity::error, place(file_, node.at) + ": " + path_, "expected a mapping of keys to values"});
}

std::string Section::where(const Node& at, std::string_view key) const {
  return place(file_, at.at) + ": " + path_of(key);
}

void Section::error(const Node& at, std::string_view key, std::string what) {
  problems_.push_back({Problem::Severity::error, where(at, key), std::move(what)});
}

void Section::warning(const Node& at, std::string_view key, std::string what) {
  problems_.push_back({Problem::Severity::warning, where(at, key), std::move(what)});
}

const Node* Section::get(std::string_view key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.push_back(key);
  const Node* found = node_.find(key);
  return found == nullptr || found->empty() ? nullptr : found;
}

std::optional<std::string> Section::text(std::string_view key) {
  const Node* found = get(key);
  if (found == nullptr) return std::nullopt;
  const std::string_view text = trim(found->text);
  if (found->kind == Node::Kind::scalar && !has_control(text)) return std::string(text);
  error(*found, key, "expected one line of text");
  return std::nullopt;
}

std::optional<bool> Section::boolean(std::string_view key) {
  const Node* found = get(key);
  if (found == nullptr) return std::nullopt;
  const std::string word = lower_ascii(found->text);
  if (word == "true" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "no" || word == "off") return false;
  error(*found, key, "expected true or false");
  return std::nullopt;
}

std::optional<milliseconds> Section::duration(std::string_view key, milliseconds least, milliseconds most) {
  const Node* found = get(key);
  if (found == nullptr) return std::nullopt;
  const auto duration = parse_duration(found->text);
  if (duration && *duration >= least && *duration <= most) return duration;
  error(*found, key,
        "expected a time from " + duration_text(least) + " to " + duration_text(most) +
            " with its unit (ms, s or m), got " + quoted(found->text));
  return std::nullopt;
}

std::optional<std::size_t> Section::word(std::string_view key, std::span<const std::string_view> words) {
  const Node* found = get(key);
  if (found == nullptr) return std::nullopt;
  const auto word = std::find(words.begin(), words.end(), lower_ascii(found->text));
  if (word != words.end()) return static_cast<std::size_t>(word - words.begin());
  error(*found, key,
        "expected one of " + joined(words) + (found->kind == Node::Kind::scalar ? ", got " + quoted(found->text) : ""));
  return std::nullopt;
}

void Section::list(std::string_view key, const std::function<void(const std::string&, const std::string&)>& each) {
  const Node* found = get(key);
  if (found == nullptr) return;
  if (found->kind == Node::Kind::map) return error(*found, key, "expected a list");
  if (found->kind == Node::Kind::scalar) return each(found->text, where(*found, key));
  for (std::size_t i = 0; i < found->items.size(); ++i) {
    const Node& item = found->items[i];
    const std::string item_key = std::string(key) + "[" + std::to_string(i) + "]";
    if (item.kind == Node::Kind::scalar) each(item.text, where(item, item_key));
    else if (!item.empty()) error(item, item_key, "expected text");
  }
}

void Section::finish() {
  for (std::size_t i = 0; i < node_.members.size(); ++i) {
    const Member& member = node_.members[i];
    const std::string at = place(file_, member.at) + ": " + path_of(shown_key(member.key));
    const auto earlier = std::find_if(node_.members.begin(), node_.members.begin() + static_cast<std::ptrdiff_t>(i),
                                      [&](const Member& other) { return other.key == member.key; });
    if (earlier != node_.members.begin() + static_cast<std::ptrdiff_t>(i)) {
      problems_.push_back(
          {Problem::Severity::error, at, "this key is already in line " + std::to_string(earlier->at.line)});
    } else if (std::find(known_.begin(), known_.end(), member.key) == known_.end()) {
      const std::string_view guess = nearest(member.key, known_);
      problems_.push_back({Problem::Severity::error, at,
                           guess.empty() ? "unknown key; known are " + joined(known_)
                                         : "unknown key, did you mean " + std::string(guess) + "?"});
    }
  }
}

}  // namespace towpath
