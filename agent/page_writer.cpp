#include "agent/page_writer.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "agent/open_sockets.h"

namespace towpath {

namespace {

bool counted(SocketState state) noexcept { return state == SocketState::pending || state == SocketState::lost; }

}  // namespace

UniqueFd PageWriter::create(std::string& why) {
  UniqueFd fd(memfd_create("towpath-page", MFD_CLOEXEC));
  if (!fd || ftruncate(fd.get(), sizeof(Page)) != 0) {
    why = std::string("cannot make the page: ") + std::strerror(errno);
    return {};
  }
  return fd;
}

std::optional<PageWriter> PageWriter::adopt(int memfd, std::string& why) {
  void* at = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (at == MAP_FAILED) {
    why = std::string("cannot map the page: ") + std::strerror(errno);
    return std::nullopt;
  }
  PageWriter out;
  out.page_ = static_cast<Page*>(at);
  const std::string path = "/proc/self/fd/" + std::to_string(memfd);
  out.reader_.reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!out.reader_) out.reader_.reset(fcntl(memfd, F_DUPFD_CLOEXEC, 3));
  Page& page = *out.page_;
  if (page.magic == page_magic && page.version == page_version) {
    std::uint32_t lost = 0;
    for (PageEntry& entry : page.entries) {
      entry.held.store(0);
      const SocketState state = entry.state.load();
      if (entry.cookie.load() == 0 || (!counted(state) && state != SocketState::quiet)) continue;
      entry.error.store(ENETDOWN);
      entry.state.store(SocketState::lost, std::memory_order_release);
      ++lost;
    }
    page.pending.store(lost, std::memory_order_release);
  }
  if (page.id == 0 && getrandom(&page.id, sizeof page.id, 0) != sizeof page.id) {
    why = "the kernel gives no random numbers";
    return std::nullopt;
  }
  page.version = page_version;
  page.magic = page_magic;
  return out;
}

PageWriter::~PageWriter() {
  if (page_ != nullptr) munmap(page_, sizeof(Page));
}

void PageWriter::set_synthetic(const IpAddress& v4, unsigned bits, const IpAddress& v6) noexcept {
  page_->synthetic_v4 = v4.v4_number();
  page_->synthetic_v4_bits = bits;
  std::memcpy(page_->synthetic_v6, v6.bytes().data(), sizeof page_->synthetic_v6);
}

PageEntry* PageWriter::find(std::uint64_t cookie) noexcept {
  return const_cast<PageEntry*>(find_socket(*page_, cookie));
}

PageEntry* PageWriter::free_entry(std::uint64_t cookie) noexcept {
  for (std::uint32_t i = 0; i < page_window; ++i) {
    PageEntry& entry = page_->entries[(page_hash(cookie) + i) % page_entries];
    if (entry.cookie.load(std::memory_order_relaxed) == 0) return &entry;
  }
  return nullptr;
}

void PageWriter::set_state(PageEntry& entry, SocketState state, bool held) noexcept {
  const bool was =
      counted(entry.state.load(std::memory_order_relaxed)) || entry.held.load(std::memory_order_relaxed) != 0;
  const bool is = counted(state) || held;
  // The counter covers the state: raised before, lowered after.
  if (is && !was) page_->pending.fetch_add(1, std::memory_order_release);
  entry.held.store(held ? 1 : 0, std::memory_order_release);
  entry.state.store(state, std::memory_order_release);
  if (was && !is) page_->pending.fetch_sub(1, std::memory_order_release);
}

void PageWriter::set_door(std::uint32_t at, const Endpoint& server, std::uint32_t ports) noexcept {
  DnsDoor& door = page_->doors[at];
  door.ports.store(0, std::memory_order_release);
  if (ports == 0) return;
  const auto bytes = server.address.bytes();
  std::memcpy(door.address, bytes.data(), bytes.size());
  door.address_size = static_cast<std::uint8_t>(bytes.size());
  door.scope = server.address.scope();
  door.port = server.port;
  door.ports.store(ports, std::memory_order_release);
  if (page_->dns_doors.load(std::memory_order_relaxed) <= at) page_->dns_doors.store(at + 1, std::memory_order_release);
}

// Sockets that were closed since leave their entries behind: the kernel knows which are still there.
void PageWriter::forget_closed() {
  const OpenSockets streams = OpenSockets::list(OpenSockets::Kind::stream);
  const OpenSockets datagrams = OpenSockets::list(OpenSockets::Kind::datagram);
  if (!streams.complete()) return;
  for (PageEntry& each : page_->entries) {
    const std::uint64_t known = each.cookie.load(std::memory_order_relaxed);
    const SocketState state = each.state.load();
    if (known == 0 || state == SocketState::pending || state == SocketState::quiet || streams.has(known)) continue;
    const bool datagram = state == SocketState::dns || state == SocketState::muted;
    // Where the kernel does not list datagram sockets, one that is led to a name server may be forgotten: it is
    // announced again when it sends again. A muted one must stay muted.
    if (datagram && (datagrams.has(known) || (!datagrams.complete() && state == SocketState::muted))) continue;
    forget(known);
  }
}

std::size_t PageWriter::count_tunnels() {
  // Nothing is forgotten here: an entry may be of a socket that was made while the kernel was listing.
  const OpenSockets streams = OpenSockets::list(OpenSockets::Kind::stream);
  std::size_t count = 0;
  for (const PageEntry& each : page_->entries) {
    const std::uint64_t cookie = each.cookie.load(std::memory_order_relaxed);
    if (cookie == 0 || each.state.load() != SocketState::open || each.direct != 0) continue;
    if (!streams.complete() || streams.held(cookie)) ++count;
  }
  return count;
}

void PageWriter::mark_direct(std::uint64_t cookie) noexcept {
  if (PageEntry* entry = find(cookie)) entry->direct = 1;
}

bool PageWriter::begin(std::uint64_t cookie, const Endpoint& target) {
  return note(cookie, SocketState::pending, target);
}

bool PageWriter::note(std::uint64_t cookie, SocketState state, const Endpoint& target) {
  PageEntry* entry = find(cookie);
  if (entry == nullptr) entry = free_entry(cookie);
  if (entry == nullptr) {
    forget_closed();
    entry = free_entry(cookie);
    if (entry == nullptr) return false;
  }
  const auto bytes = target.address.bytes();
  std::memcpy(entry->address, bytes.data(), bytes.size());
  entry->address_size = static_cast<std::uint8_t>(bytes.size());
  entry->port = target.port;
  entry->direct = 0;
  entry->error.store(0, std::memory_order_relaxed);
  set_state(*entry, state);
  entry->cookie.store(cookie, std::memory_order_release);
  return true;
}

void PageWriter::set_quiet(std::uint64_t cookie) noexcept {
  if (PageEntry* entry = find(cookie)) set_state(*entry, SocketState::quiet);
}

void PageWriter::finish(std::uint64_t cookie, SocketState state, int error) noexcept {
  PageEntry* entry = find(cookie);
  if (entry == nullptr) return;
  entry->error.store(error, std::memory_order_relaxed);
  set_state(*entry, state, true);
}

void PageWriter::let_go(std::uint64_t cookie) noexcept {
  PageEntry* entry = find(cookie);
  if (entry != nullptr) set_state(*entry, entry->state.load(std::memory_order_relaxed));
}

void PageWriter::forget(std::uint64_t cookie) noexcept {
  PageEntry* entry = find(cookie);
  if (entry == nullptr) return;
  set_state(*entry, SocketState::none);
  entry->cookie.store(0, std::memory_order_release);
}

std::uint32_t PageWriter::notice_at(std::uint64_t id, std::uint32_t listener) noexcept {
  return page_hash(id * 31 + listener) % page_notices;
}

bool PageWriter::note_notice(std::uint64_t id, std::uint32_t listener) noexcept {
  page_->last_notice[listener % page_listeners].store(id, std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < page_window; ++i) {
    PageNotice& notice = page_->notices[(notice_at(id, listener) + i) % page_notices];
    if (notice.id.load(std::memory_order_relaxed) != 0) continue;
    notice.listener = listener;
    notice.id.store(id, std::memory_order_release);
    return true;
  }
  return false;
}

void PageWriter::forget_notice(std::uint64_t id, std::uint32_t listener) noexcept {
  for (std::uint32_t i = 0; i < page_window; ++i) {
    PageNotice& notice = page_->notices[(notice_at(id, listener) + i) % page_notices];
    if (notice.id.load(std::memory_order_relaxed) != id || notice.listener != listener) continue;
    return notice.id.store(0, std::memory_order_release);
  }
}

std::uint64_t PageWriter::take_notice(std::uint32_t at, std::uint32_t listener) noexcept {
  PageNotice& notice = page_->notices[at];
  if (notice.listener != listener) return 0;
  return notice.id.exchange(0, std::memory_order_relaxed);
}

}  // namespace towpath
