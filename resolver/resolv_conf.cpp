#include "resolver/resolv_conf.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace towpath {

namespace {
constexpr std::size_t longest_name = 253;
constexpr std::string_view blanks = " \t\r";

// Takes the next word off `line`; a word that starts a comment ends the line.
std::string_view next_word(std::string_view& line) noexcept {
  const auto start = line.find_first_not_of(blanks);
  if (start == line.npos || line[start] == '#' || line[start] == ';') {
    line = {};
    return {};
  }
  const auto end = std::min(line.find_first_of(blanks, start), line.size());
  const std::string_view word = line.substr(start, end - start);
  line.remove_prefix(end);
  return word;
}

std::string search_entry(std::string_view word) {
  if (word.starts_with('.')) word.remove_prefix(1);
  if (word.ends_with('.')) word.remove_suffix(1);
  std::string out(word);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

void read_nameserver(std::string_view line, ResolvConf& out) {
  std::string_view word = next_word(line);
  word = word.substr(0, word.find_first_of(";#"));
  const IpAddress address = IpAddress::parse(word);
  if (address && out.nameservers.size() < ResolvConf::most_nameservers) out.nameservers.push_back({address, 53});
}

void read_search(std::string_view line, std::size_t most, ResolvConf& out) {
  std::vector<std::string> found;
  for (auto word = next_word(line); !word.empty() && found.size() < most; word = next_word(line))
    if (word.size() <= longest_name + 1) found.push_back(search_entry(word));
  if (!found.empty()) out.search = std::move(found);
}

void read_options(std::string_view line, ResolvConf& out) {
  constexpr std::string_view key = "ndots:";
  for (auto word = next_word(line); !word.empty(); word = next_word(line)) {
    if (!word.starts_with(key)) continue;
    word.remove_prefix(key.size());
    unsigned value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error == std::errc::result_out_of_range) value = ResolvConf::most_ndots;
    if (error != std::errc::invalid_argument) out.ndots = std::min(value, ResolvConf::most_ndots);
  }
}
}  // namespace

ResolvConf ResolvConf::parse(std::string_view text, std::string_view own_host_name) {
  ResolvConf out;
  text = text.substr(0, most_bytes);
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    // A keyword stands at the start of its line, as in both libcs.
    if (line.empty() || blanks.find(line.front()) != blanks.npos) continue;
    const std::string_view keyword = next_word(line);
    if (keyword == "nameserver") read_nameserver(line, out);
    if (keyword == "search") read_search(line, most_search, out);
    if (keyword == "domain") read_search(line, 1, out);
    if (keyword == "options") read_options(line, out);
  }
  if (const auto dot = own_host_name.find('.'); out.search.empty() && dot != own_host_name.npos)
    out.search.push_back(search_entry(own_host_name.substr(dot + 1)));
  return out;
}

std::vector<std::string> expand(std::string_view name, const ResolvConf& conf) {
  std::vector<std::string> out;
  const auto add = [&out](std::string candidate) {
    if (!candidate.empty() && candidate.size() <= longest_name) out.push_back(std::move(candidate));
  };
  if (name.ends_with('.')) {
    add(std::string(name.substr(0, name.size() - 1)));
    return out;
  }
  if (name.empty()) return out;
  bool tried_as_is = std::count(name.begin(), name.end(), '.') >= static_cast<std::ptrdiff_t>(conf.ndots);
  if (tried_as_is) add(std::string(name));
  for (const std::string& domain : conf.search) {
    if (!domain.empty()) {
      add(std::string(name) + '.' + domain);
    } else if (!std::exchange(tried_as_is, true)) {
      add(std::string(name));
    }
  }
  if (!tried_as_is) add(std::string(name));
  return out;
}

}  // namespace towpath
