// The writing side of proto/page.h. One agent writes at a time; the memfd outlives it.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "proto/page.h"

namespace towpath {

class OpenSockets;

class PageWriter {
 public:
  // A new memfd of the right size, all zero.
  [[nodiscard]] static UniqueFd create(std::string& why);
  // Takes over what an earlier agent left: its unfinished handshakes become `lost`.
  [[nodiscard]] static std::optional<PageWriter> adopt(int borrowed_memfd, std::string& why);

  PageWriter(PageWriter&& other) noexcept
      : page_(std::exchange(other.page_, nullptr)), reader_(std::move(other.reader_)) {}
  ~PageWriter();

  // Where synthetic addresses lie, for the hooks that must tell them without asking.
  void set_synthetic(const IpAddress& v4, unsigned bits, const IpAddress& v6) noexcept;

  // Direct verdicts that processes remember end here.
  void raise_epoch() noexcept { page_->epoch.fetch_add(1, std::memory_order_release); }

  // The loop turns.
  void beat() noexcept { page_->beats.fetch_add(1, std::memory_order_relaxed); }

  // Where the agent answers in the place of name servers. `at` < page_dns_doors; ports as in DnsDoor, 0 takes it back.
  void set_door(std::uint32_t at, const Endpoint& server, std::uint32_t ports) noexcept;
  void set_dns_streams(std::uint32_t ports) noexcept { page_->dns_streams.store(ports, std::memory_order_release); }
  void set_net(PageNet net) noexcept { page_->net.store(net); }
  void set_setuid_direct(bool direct) noexcept { page_->setuid_direct.store(direct ? 1 : 0); }
  void set_udp_blocked(bool blocked) noexcept { page_->udp_blocked.store(blocked ? 1 : 0); }

  // The socket is led to a door (dns) or must not send (muted). False: no room.
  [[nodiscard]] bool note(std::uint64_t cookie, SocketState state, const Endpoint& target);
  // The socket is in a handshake from now on. False: no room beside that many open tunnels.
  [[nodiscard]] bool begin(std::uint64_t cookie, const Endpoint& target);
  // It waits natively (QuietDoor): nothing needs to be kept from the program.
  void set_quiet(std::uint64_t cookie) noexcept;
  // The verdict; the socket is still held.
  void finish(std::uint64_t cookie, SocketState state, int error) noexcept;
  // The agent has closed its copy of the socket.
  void let_go(std::uint64_t cookie) noexcept;
  // The socket is none of our business (any more).
  void forget(std::uint64_t cookie) noexcept;

  // That open socket is no tunnel.
  void mark_direct(std::uint64_t cookie) noexcept;
  // How many tunnels some process still has open. Asks the kernel for all sockets, and forgets closed ones.
  [[nodiscard]] std::size_t count_tunnels();

  // PageNotice: a call was taken from the kernel (false: no room), and answered.
  [[nodiscard]] bool note_notice(std::uint64_t id, std::uint32_t listener) noexcept;
  [[nodiscard]] std::uint64_t last_notice(std::uint32_t listener) const noexcept {
    return page_->last_notice[listener % page_listeners].load(std::memory_order_relaxed);
  }
  void forget_notice(std::uint64_t id, std::uint32_t listener) noexcept;
  // The id at `at` if it belongs to that listener, else 0; it is forgotten with that.
  [[nodiscard]] std::uint64_t take_notice(std::uint32_t at, std::uint32_t listener) noexcept;
  // The part that agent/inbound writes.
  [[nodiscard]] InboundPage& inbound() noexcept { return page_->inbound; }

  [[nodiscard]] const Page& page() const noexcept { return *page_; }
  // What processes get: read-only where /proc is mounted.
  [[nodiscard]] int reader() const noexcept { return reader_.get(); }

 private:
  PageWriter() = default;
  PageEntry* find(std::uint64_t cookie) noexcept;
  PageEntry* free_entry(std::uint64_t cookie) noexcept;
  void forget_closed();
  void set_state(PageEntry& entry, SocketState state, bool held = false) noexcept;

  // Where a notice with that id may stand, the first place of them.
  [[nodiscard]] static std::uint32_t notice_at(std::uint64_t id, std::uint32_t listener) noexcept;

  Page* page_ = nullptr;
  UniqueFd reader_;
};

}  // namespace towpath
