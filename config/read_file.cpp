#include "config/read_file.h"

#include <algorithm>

#include "config/document.h"
#include "config/read_section.h"

namespace towpath {

namespace {

// Anything but an exempt list, which changes nothing by itself (the chart's own default has one).
bool says_something(const Node& section) {
  return std::any_of(section.members.begin(), section.members.end(),
                     [](const Member& member) { return member.key != "exempt" && !member.value.empty(); });
}

void report_repeated(const Node& map, const std::string& prefix, const std::string& file, Draft& draft) {
  for (std::size_t i = 0; i < map.members.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (map.members[i].key == map.members[j].key)
        draft.error(place(file, map.members[i].at) + ": " + prefix + map.members[i].key,
                    "this key is already in line " + std::to_string(map.members[j].at.line));
}

}  // namespace

void read_file_text(std::string_view text, const std::string& file, Draft& draft) {
  const std::size_t problems_before = draft.problems.size();
  const Node root = parse_document(text, file, draft.problems);
  if (draft.problems.size() != problems_before) return;
  if (root.kind != Node::Kind::map && !root.empty())
    return draft.error(place(file, root.at), "expected a mapping with the key coderd, proxy or reverseProxy");
  const Node* coderd = root.find("coderd");
  if (coderd != nullptr && coderd->kind != Node::Kind::map && !coderd->empty())
    return draft.error(place(file, coderd->at) + ": coderd", "expected a mapping of keys to values");
  report_repeated(root, "", file, draft);
  if (coderd != nullptr) report_repeated(*coderd, "coderd.", file, draft);

  bool found = false;
  const auto read = [&](const char* key, auto&& reader) {
    const Node* below = coderd != nullptr ? coderd->find(key) : nullptr;
    const Node* top = root.find(key);
    if (below != nullptr && top != nullptr && !below->empty() && !top->empty())
      draft.error(place(file, top->at) + ": " + key, std::string("also given as coderd.") + key + " in line " +
                                                         std::to_string(below->at.line) + ": keep one of them");
    for (const Node* section : {below, top}) {
      if (section == nullptr) continue;
      found = true;
      if (section->empty()) continue;
      if (says_something(*section)) draft.configured = true;
      draft.add_source(file);
      reader(*section, section == below ? std::string("coderd.") + key : std::string(key), file, draft);
    }
  };
  read("proxy", read_proxy_section);
  read("reverseProxy", read_reverse_section);
  if (!found) draft.warning(file, "no section coderd.proxy, coderd.reverseProxy, proxy or reverseProxy in this file");
}

}  // namespace towpath
