// Direct verdicts that this process was given, so that repeated connects to an exempt destination ask nothing. Valid as
// long as the agent's epoch stands: a new policy, another name for an address, a proxy's new address end it.
#pragma once

#include "base/endpoint.h"

namespace towpath {

// The same address may be direct for one kind and not for the other.
enum class Traffic : std::uint8_t { stream, datagram };

// True when the agent said "direct" for exactly this destination and nothing has changed since.
bool known_direct(const Endpoint& target, Traffic traffic = Traffic::stream) noexcept;

// The epoch to remember a verdict with: read before the ask, so that a change in between ends it.
std::uint32_t verdict_epoch() noexcept;
void remember_direct(const Endpoint& target, std::uint32_t epoch, Traffic traffic = Traffic::stream) noexcept;

}  // namespace towpath
