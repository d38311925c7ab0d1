// A policy while it is put together. Sources are read from the highest precedence to the lowest (command line,
// file, environment): whoever gives a non-empty value claims it, and later ones leave it alone. Nothing is merged.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/policy.h"
#include "config/problem.h"

namespace towpath {

struct Draft {
  Policy policy;
  std::vector<Problem> problems;
  std::vector<std::string> sources;
  bool configured = false;  // anything said that changes what happens to a connection

  struct Claimed {
    bool http = false, https = false, all = false, exempt = false;
    bool origins = false, headers = false, authorities = false, client_certificate = false;
  } claimed;

  struct {
    std::string path, where;
  } credentials_file;

  void error(std::string where, std::string what);
  void warning(std::string where, std::string what);
  void add_source(std::string_view name);

  struct Given {
    std::string text, where;
  };
  // Always validated; stored when `claim` is still free. Empty texts are not given.
  void proxies(const std::vector<Given>& given, ProxyList Policy::*slot, bool Claimed::*claim);
  void exempt(ExemptRules rules);
  void origins(std::vector<Prefix> ranges);
  void headers(std::vector<std::string> names);

  // Append the parsed entries of a comma list, and report the bad ones.
  void read_origins(std::string_view list, const std::string& where, std::vector<Prefix>& into);
  void read_headers(std::string_view list, const std::string& where, std::vector<std::string>& into);
};

}  // namespace towpath
