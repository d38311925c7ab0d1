#include "config/explain.h"

#include "config/text.h"

namespace towpath {

namespace {

std::string destination_text(const Destination& destination) {
  std::string host = destination.name.empty() ? text_of(destination.address) : std::string(destination.name);
  if (host.find(':') != host.npos) host = "[" + host + "]";
  return host + ":" + std::to_string(destination.port);
}

}  // namespace

std::string json_text(std::string_view text) {
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t size = utf8_size(text);
    const auto byte = static_cast<unsigned char>(text[0]);
    if (size == 0) out += "\\ufffd";
    else if (text[0] == '"' || text[0] == '\\') out += {'\\', text[0]};
    else if (is_control(text[0])) out += {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
    else out += text.substr(0, size);
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return out + "\"";
}

std::string explain_text(const Decision& decision, const Destination& destination) {
  std::string out = destination_text(destination) + ": " + std::string(name_of(decision.kind));
  for (const ProxyUrl& proxy : decision.proxies)
    out += (&proxy == decision.proxies.data() ? " through " : ", then ") + proxy.display();
  return out + " (" + decision.rule + ")";
}

std::string explain_json(const Decision& decision, const Destination& destination) {
  std::string out = "{\"destination\":" + json_text(destination_text(destination)) +
                    ",\"route\":" + json_text(name_of(decision.kind));
  if (!decision.proxies.empty()) out += ",\"via\":" + json_text(decision.proxies[0].display());
  if (decision.proxies.size() > 1) {
    std::string then;
    for (const ProxyUrl& proxy : decision.proxies.subspan(1))
      then += (then.empty() ? "" : ",") + json_text(proxy.display());
    out += ",\"then\":[" + then + "]";
  }
  return out + ",\"rule\":" + json_text(decision.rule) + "}";
}

}  // namespace towpath
