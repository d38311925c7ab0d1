// What the library knows about the process it lives in. No descriptor, no thread, no heap.
#pragma once

#include <atomic>

#include "proto/page.h"
#include "proto/wire.h"

namespace towpath {

// Null: the environment names no agent, every hook is transparent.
const wire::Control* control() noexcept;

// The agent's page, mapped at the first call that needs it; null while no agent answers.
const Page* page() noexcept;
// The page if it is mapped already.
const Page* mapped_page() noexcept;

// This process (or the one it was forked from) has had a handshake run behind its back at least once.
void note_gated() noexcept;

// Could any socket of this process be in a handshake right now? One or two loads; false nearly always.
bool anything_pending() noexcept;

// The kernel's identity of a socket, 0 when `fd` is none.
std::uint64_t cookie_of(int fd) noexcept;

// The page's entry when `fd` is a socket in a handshake.
const PageEntry* pending_socket(int fd) noexcept;

// True when `size` bytes at `from` can be read: a hook must give EFAULT where the kernel would, not crash.
bool readable(const void* from, std::size_t size) noexcept;

}  // namespace towpath
