#include "resolver/hosts_file.h"

#include <algorithm>

namespace towpath {

namespace {
constexpr std::string_view blanks = " \t\r\v\f";

void make_lower(std::string& text) noexcept {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
}

std::string_view next_word(std::string_view& line) noexcept {
  const auto start = std::min(line.find_first_not_of(blanks), line.size());
  const auto end = std::min(line.find_first_of(blanks, start), line.size());
  const std::string_view word = line.substr(start, end - start);
  line.remove_prefix(end);
  return word;
}

std::string_view without_dot(std::string_view name) noexcept {
  if (name.ends_with('.')) name.remove_suffix(1);
  return name;
}
}  // namespace

std::vector<IpAddress> HostsFile::lookup(std::string_view name) {
  refresh();
  std::string wanted(without_dot(name));
  make_lower(wanted);
  std::vector<IpAddress> out;
  const auto before = [this](const Entry& entry, const std::string& key) { return name_of(entry) < key; };
  auto at = std::lower_bound(entries_.begin(), entries_.end(), wanted, before);
  for (; at != entries_.end() && name_of(*at) == wanted && out.size() < most_addresses; ++at)
    if (std::find(out.begin(), out.end(), at->address) == out.end()) out.push_back(at->address);
  return out;
}

void HostsFile::refresh() {
  if (FileStamp::of(path_) == stamp_) return;
  auto [text, stamp] = read_file_text(path_, most_bytes);
  stamp_ = stamp;
  text_ = std::move(text);
  make_lower(text_);
  entries_.clear();
  std::string_view left = text_;
  while (!left.empty()) {
    const auto end = std::min(left.find('\n'), left.size());
    const std::string_view line = left.substr(0, end);
    read_line(line.substr(0, line.find('#')));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  std::stable_sort(entries_.begin(), entries_.end(),
                   [this](const Entry& a, const Entry& b) { return name_of(a) < name_of(b); });
}

void HostsFile::read_line(std::string_view line) {
  const IpAddress address = IpAddress::parse(next_word(line));
  if (!address) return;
  for (auto word = next_word(line); !word.empty(); word = next_word(line)) {
    const std::string_view name = without_dot(word);
    if (name.empty()) continue;
    entries_.push_back(
        {static_cast<std::uint32_t>(name.data() - text_.data()), static_cast<std::uint32_t>(name.size()), address});
  }
}

}  // namespace towpath
