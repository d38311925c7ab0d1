#include "agent/kept.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/client_table_writer.h"
#include "agent/page_writer.h"
#include "config/inbound.h"
#include "resolver/synthetic_names.h"

namespace towpath {

namespace {

constexpr int backlog = 4096;  // asks that may wait for an agent

std::string hex(const void* bytes, std::size_t size) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<const unsigned char*>(bytes)[i];
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

}  // namespace

std::optional<Kept> Kept::create(const Policy& policy, std::string& why, const std::string& given, bool* taken) {
  Kept out;
  out.standalone = !given.empty();
  out.mode = out.standalone ? "standalone" : "agent";
  std::uint8_t name[8];
  if (getrandom(name, sizeof name, 0) != sizeof name || getrandom(out.token.data(), out.token.size(), 0) != 16) {
    why = "the kernel gives no random numbers";
    return std::nullopt;
  }
  out.control_name = out.standalone ? given : "towpath-" + hex(name, sizeof name);
  out.control.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, out.control_name.data(), out.control_name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + out.control_name.size());
  if (!out.control || bind(out.control.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(out.control.get(), backlog) != 0) {
    if (taken != nullptr) *taken = errno == EADDRINUSE;
    why = std::string("cannot make the control socket: ") + std::strerror(errno);
    return std::nullopt;
  }
  const SyntheticNames::Range range{policy.synthetic_range.address, policy.synthetic_range.bits};
  const auto names = SyntheticNames::create(range, why);
  if (!names) return std::nullopt;
  out.names.reset(fcntl(names->fd(), F_DUPFD_CLOEXEC, 3));
  out.page = PageWriter::create(why);
  if (!out.names || !out.page) return std::nullopt;
  if (inbound_on(policy.reverse) && !(out.clients = ClientTableWriter::create(why))) return std::nullopt;
  // Without a shelf only a program that waits for a dead agent in epoll_wait is worse off.
  if (int ends[2]; socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0) {
    out.shelf_in.reset(ends[0]);
    out.shelf_out.reset(ends[1]);
  }
  // A sequence of packets: a queue of datagrams ends after ten.
  if (int ends[2]; socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0) {
    out.listeners_in.reset(ends[0]);
    out.listeners_out.reset(ends[1]);
  }
  return out;
}

std::vector<int> Kept::descriptors() const {
  return {control.get(),   names.get(),        page.get(),          clients.get(), shelf_in.get(),
          shelf_out.get(), listeners_in.get(), listeners_out.get(), metrics.get()};
}

std::string Kept::control_value() const {
  return control_name + ":" + token_text() + (clients ? ":in" : "");
}

std::string Kept::token_text() const { return hex(token.data(), token.size()); }

}  // namespace towpath
