// A range of addresses as the protocols and the published page use it: plain data, may lie in shared memory.
#pragma once

#include <span>

#include "base/endpoint.h"

namespace towpath {

struct AddressRange {
  IpAddress address;  // masked or not: only the first `bits` count
  unsigned bits = 0;

  [[nodiscard]] bool contains(const IpAddress& other) const noexcept { return other.in_prefix(address, bits); }
};

// Who may say on whose behalf he comes.
using TrustedRanges = std::span<const AddressRange>;

[[nodiscard]] inline bool trusts(TrustedRanges ranges, const IpAddress& address) noexcept {
  for (const AddressRange& each : ranges)
    if (each.contains(address)) return true;
  return false;
}

// An address that a connection cannot have come from: nobody's, everybody's, or a group's.
[[nodiscard]] inline bool is_no_client(const IpAddress& address) noexcept {
  if (!address || address.is_unspecified()) return true;
  if (address.is_v4()) return address.v4_number() >> 28 == 0xe || address.v4_number() == 0xffffffff;
  return address.bytes()[0] == 0xff;
}

}  // namespace towpath
