#include "config/read_section.h"

#include <algorithm>
#include <array>

#include "config/section.h"
#include "config/text.h"

namespace towpath {

namespace {

using namespace std::chrono_literals;

// In the order of the enums' values.
constexpr std::array<std::string_view, 3> mode_words = {"http", "proxy", "raw"};
// "off" may have become a boolean on its way through a template.
constexpr std::array<std::string_view, 5> proxy_protocol_words = {"off", "optional", "require", "false", "no"};

void read_managed_ports(Section& reverse, const std::string& file, Draft& draft) {
  const Node* found = reverse.get("ports");
  if (found == nullptr || (found->kind == Node::Kind::scalar && lower_ascii(found->text) == "all")) return;
  if (found->kind != Node::Kind::list)
    return reverse.error(*found, "ports", "expected all, or a list like [{port: 8080, mode: http}]");
  draft.policy.reverse.all_ports = false;
  std::vector<ManagedPort>& ports = draft.policy.reverse.ports;
  for (std::size_t i = 0; i < found->items.size(); ++i) {
    const Node& item = found->items[i];
    const std::string key = "ports[" + std::to_string(i) + "]";
    ManagedPort managed;
    const Node* number = &item;
    if (item.kind == Node::Kind::map) {
      Section in(item, reverse.path_of(key), file, draft.problems);
      number = in.get("port");
      in.choice("mode", mode_words, managed.mode);
      in.finish();
    }
    const auto port = parse_port(number != nullptr ? number->text : "");
    const auto same = [&](const ManagedPort& other) { return other.port == port; };
    if (!port)
      reverse.error(number != nullptr ? *number : item, key,
                    "expected a port from 1 to 65535, or {port: 8080, mode: http}");
    else if (std::any_of(ports.begin(), ports.end(), same))
      reverse.error(item, key, "port " + std::to_string(*port) + " is there twice");
    else managed.port = *port, ports.push_back(managed);
  }
}

}  // namespace

void read_reverse_section(const Node& node, const std::string& path, const std::string& file, Draft& draft) {
  Section in(node, path, file, draft.problems);
  ReverseSettings& reverse = draft.policy.reverse;
  std::vector<Prefix> ranges;
  bool given = false;
  in.list("trustedOrigins", [&](const std::string& text, const std::string& where) {
    given = given || !split_list(text).empty();
    draft.read_origins(text, where, ranges);
  });
  if (given) draft.origins(std::move(ranges));
  std::vector<std::string> names;
  in.list("headers",
          [&](const std::string& text, const std::string& where) { draft.read_headers(text, where, names); });
  if (!names.empty()) draft.headers(std::move(names));
  if (const auto index = in.word("proxyProtocol", proxy_protocol_words))
    reverse.proxy_protocol = *index > 2 ? ProxyProtocol::off : static_cast<ProxyProtocol>(*index);
  read_managed_ports(in, file, draft);
  reverse.strip = in.boolean("strip").value_or(false);
  draft.configured = draft.configured || reverse.strip;
  reverse.header_timeout = in.duration("headerTimeout", 10ms, 10min).value_or(reverse.header_timeout);
  in.finish();
}

}  // namespace towpath
