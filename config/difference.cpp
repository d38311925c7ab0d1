// Compares what describe() prints, the whole configuration with every key in a line of its own, so that a key that is
// new there is compared as well. What is masked there, or stands in other files, is looked at by itself.
#include "config/difference.h"

#include <algorithm>
#include <functional>

#include "config/explain.h"

namespace towpath {

namespace {

struct Key {
  std::string path;   // "proxy.tls.caFile"
  std::string value;  // as describe() writes it
};

std::vector<Key> keys_of(const Policy& policy) {
  const std::string text = describe(policy);
  std::vector<Key> out;
  std::vector<std::string> sections;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t indent = line.find_first_not_of(' '), colon = line.find(':');
    if (indent == line.npos || line[indent] == '#' || colon == line.npos) continue;
    sections.resize(std::min(sections.size(), indent / 2));
    const std::string name = line.substr(indent, colon - indent);
    if (colon + 1 == line.size()) {
      sections.push_back(name);
      continue;
    }
    std::string path;
    for (const std::string& each : sections)
      if (each != "coderd") path += each + ".";
    out.push_back({path + name, line.substr(colon + 2)});
  }
  return out;
}

// The items of a flow sequence: commas inside of quotes or braces belong to an item.
std::vector<std::string> items_of(std::string_view list) {
  std::vector<std::string> out;
  std::string item;
  bool quoted = false;
  int depth = 0;
  list = list.substr(1, list.size() - 2);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const char c = list[i];
    if (quoted && c == '\\' && i + 1 < list.size()) {
      item += c;
      item += list[++i];
      continue;
    }
    if (c == '"') quoted = !quoted;
    if (!quoted) depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    if (c == ',' && !quoted && depth == 0) {
      out.push_back(std::move(item));
      item.clear();
      ++i;  // the blank
    } else {
      item += c;
    }
  }
  if (!item.empty()) out.push_back(std::move(item));
  return out;
}

std::string plain(const std::string& value) {
  if (value == "\"\"") return "none";
  return value.size() >= 2 && value.front() == '"' && value.back() == '"' ? value.substr(1, value.size() - 2) : value;
}

std::string missing(const std::vector<std::string>& from, const std::vector<std::string>& in) {
  std::string out;
  for (const std::string& each : from)
    if (std::find(in.begin(), in.end(), each) == in.end()) out += (out.empty() ? "" : ", ") + plain(each);
  return out;
}

std::string change(const std::string& before, const std::string& after) {
  const bool lists = before.starts_with('[') && after.starts_with('[');
  if (lists) {
    const std::vector<std::string> old_items = items_of(before), new_items = items_of(after);
    const std::string added = missing(new_items, old_items), removed = missing(old_items, new_items);
    std::string out = added.empty() ? "" : "added " + added;
    if (!removed.empty()) out += (out.empty() ? "removed " : "; removed ") + removed;
    if (!out.empty()) return out;  // else their order
  }
  return plain(before) + " -> " + plain(after);
}

// Shown as *** only.
bool same_credentials(const Policy& a, const Policy& b) {
  for (const auto slot : {&Policy::http, &Policy::https, &Policy::all}) {
    const ProxyList &x = a.*slot, &y = b.*slot;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!(x[i].credentials == y[i].credentials)) return false;
  }
  return true;
}

}  // namespace

std::vector<std::string> differences(const Policy& before, const Policy& after) {
  std::vector<std::string> out;
  const std::vector<Key> old_keys = keys_of(before), new_keys = keys_of(after);
  for (const Key& key : new_keys) {
    const auto old = std::find_if(old_keys.begin(), old_keys.end(), [&](const Key& k) { return k.path == key.path; });
    const std::string was = old == old_keys.end() ? "\"\"" : old->value;
    if (was != key.value) out.push_back(key.path + ": " + change(was, key.value));
  }
  if (!same_credentials(before, after)) out.emplace_back("proxy: other credentials");
  if (before.tls.content != after.tls.content) out.emplace_back("proxy.tls: the files hold something else");
  return out;
}

std::uint64_t fingerprint(const Policy& policy) {
  std::string all;
  for (const Key& key : keys_of(policy)) all += key.path + '\0' + key.value + '\n';
  for (const ProxyList* list : policy.proxy_lists())
    for (const ProxyUrl& proxy : *list)
      if (proxy.credentials) all += proxy.credentials->user + '\0' + proxy.credentials->password + '\n';
      else all += "-\n";
  return std::hash<std::string>{}(all + std::to_string(policy.tls.content));
}

}  // namespace towpath
