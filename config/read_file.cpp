#include "config/read_file.h"

#include <algorithm>

#include "config/document.h"
#include "config/read_section.h"
#include "config/section.h"

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

// The rest of the file is others' business, but a section whose name is mistyped must not be nothing at all. At top
// level that is certain for `coderd`, and for the sections themselves when there is none.
void report_slips(const Node& map, const std::string& prefix, bool found, const std::string& file, Draft& draft) {
  const bool top_level = prefix.empty();
  for (const Member& member : map.members) {
    const std::string_view meant = slip_of(member.key, top_level);
    if (meant.empty() || (found && top_level && (meant != "coderd" || member.key == "coder"))) continue;
    draft.error(place(file, member.at) + ": " + prefix + shown_key(member.key),
                "unknown key, did you mean " + std::string(meant) + "?");
  }
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
  const std::size_t problems_so_far = draft.problems.size();
  report_slips(root, "", found, file, draft);
  if (coderd != nullptr) report_slips(*coderd, "coderd.", found, file, draft);
  // Whoever names a file expects it to say something.
  if (!found && draft.problems.size() == problems_so_far)
    draft.error(file,
                "configures nothing: no section coderd.proxy, coderd.reverseProxy, proxy or reverseProxy in this file");
}

}  // namespace towpath
