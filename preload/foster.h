// A program that adopts orphans (PID 1, or PR_SET_CHILD_SUBREAPER) would find the agent among its children: its
// wait(-1) would never end. There the agent gets a parent of its own, which such a wait does not see.
#pragma once

namespace towpath {

[[nodiscard]] bool adopts_orphans() noexcept;

// Forks the parent, which runs `become(context)` in a child that shares its memory; returns when that has called exec
// or ended. All signals must be blocked; they stay blocked in the parent.
void start_fostered(void (*become)(void*), void* context) noexcept;

}  // namespace towpath
