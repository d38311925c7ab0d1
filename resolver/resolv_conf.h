// resolv.conf as glibc reads it, and the names that it makes of one name. Pure: text in, values out.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.h"

namespace towpath {

struct ResolvConf {
  static constexpr std::size_t most_nameservers = 3;  // glibc and musl ask no more
  static constexpr std::size_t most_search = 32;
  static constexpr unsigned most_ndots = 15;
  static constexpr std::size_t most_bytes = 64 * 1024;  // the rest of a longer text is not read

  std::vector<Endpoint> nameservers;  // port 53; empty: none named (libc then asks 127.0.0.1)
  std::vector<std::string> search;    // lower case, no trailing dot; "" is the root (`search .`)
  unsigned ndots = 1;

  // `own_host_name`: where neither `search` nor `domain` is given, glibc searches the domain of the
  // machine's own name; musl does not. Empty: do not.
  // Not looked at: LOCALDOMAIN and RES_OPTIONS, which belong to the program's environment.
  [[nodiscard]] static ResolvConf parse(std::string_view text, std::string_view own_host_name = {});
};

// The absolute names (without trailing dot) that glibc's resolver tries for `name`, in its order:
//   trailing dot        the name itself only
//   dots >= ndots       the name itself, then each search domain
//   dots < ndots        each search domain, then the name itself, unless `search .` had it already
// musl differs in one case: with dots >= ndots it tries the name itself only. (It would find fewer names
// than this, never others.) Candidates over 253 bytes are left out.
[[nodiscard]] std::vector<std::string> expand(std::string_view name, const ResolvConf& conf);

}  // namespace towpath
