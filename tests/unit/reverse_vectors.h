// tests/vectors/reverse-vectors.json, read once. Modes coder-v1 and coder-v2 describe other systems and are left out.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "config/prefix.h"
#include "base/address_range.h"

namespace towpath::testing {

struct ReverseVector {
  std::string id, kind, mode, input;
  Endpoint peer;
  std::vector<AddressRange> trusted;
  std::vector<std::string> headers;
  std::string action, rest, authority;
  Endpoint client;
  std::size_t consumed = 0;
  YAML::Node expect;
};

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string vector_bytes(const std::string& text) {
  if (!text.starts_with("hex:")) return text;
  std::string out;
  for (std::size_t i = 4; i + 1 < text.size(); i += 2)
    out += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return out;
}

inline Endpoint vector_endpoint(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon);
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  return {IpAddress::parse(host), static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1)))};
}

inline const std::vector<ReverseVector>& reverse_vectors() {
  static const std::vector<ReverseVector> all = [] {
    std::vector<ReverseVector> out;
    for (const YAML::Node& v : YAML::LoadFile(TOWPATH_VECTORS "/reverse-vectors.json")) {
      ReverseVector one;
      one.id = v["id"].as<std::string>();
      one.kind = v["kind"].as<std::string>();
      one.mode = v["mode"] ? v["mode"].as<std::string>() : "";
      if (one.mode.starts_with("coder-")) continue;
      if (v["input"].IsSequence()) {
        for (const YAML::Node& part : v["input"]) one.input += vector_bytes(part.as<std::string>());
      } else {
        one.input = vector_bytes(v["input"].as<std::string>());
      }
      one.peer = vector_endpoint(v["peer"].as<std::string>());
      for (const YAML::Node& range : v["trusted"]) {
        const auto prefix = Prefix::parse(range.as<std::string>());
        if (prefix) one.trusted.push_back({prefix->address, prefix->bits});
      }
      for (const YAML::Node& header : v["headers"]) one.headers.push_back(header.as<std::string>());
      one.expect = v["expect"];
      const auto text = [&](const char* key) { return one.expect[key] ? one.expect[key].as<std::string>() : ""; };
      one.action = text("action");
      one.rest = vector_bytes(text("rest"));
      one.authority = text("authority");
      if (one.expect["addr"])
        one.client = {IpAddress::parse(text("addr")), static_cast<std::uint16_t>(one.expect["port"].as<int>())};
      if (one.expect["consumed"]) one.consumed = one.expect["consumed"].as<std::size_t>();
      out.push_back(std::move(one));
    }
    return out;
  }();
  return all;
}

}  // namespace towpath::testing
