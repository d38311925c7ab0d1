// Where the program wanted to go: a name when one is known, else an address.
#pragma once

#include <string_view>

#include "base/endpoint.h"

namespace towpath {

// Borrowed text; `name` is in ACE form, lower case not required, at most 255 bytes, empty when only the address is
// known.
struct TargetView {
  std::string_view name;
  IpAddress address;
  std::uint16_t port = 0;
};

}  // namespace towpath
