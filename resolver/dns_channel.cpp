#include "resolver/dns_channel.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <ares.h>
#include <arpa/nameser.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace towpath {

namespace {
constexpr int most_addresses = 64;
constexpr int longest_sleep_ms = 60'000;

std::uint16_t random_id() noexcept {
  std::uint16_t id = 0;
  if (::getrandom(&id, sizeof id, GRND_NONBLOCK) != sizeof id) id = static_cast<std::uint16_t>(uv_hrtime() >> 4);
  return id;
}

// The sockets, so that they are close-on-exec from birth, hold the answers to a burst of questions, and do not
// lose a refusal: an ICMP error is reported once, to whatever call comes next, and as the result of a send c-ares
// takes it for that question's alone while those sent before wait for their timeouts. Sent again, it comes back
// as an error to read, and c-ares moves all of them to the next server.
constexpr int receive_buffer_bytes = 1 << 20;

ares_socket_t open_socket(int domain, int type, int protocol, void*) {
  const int fd = ::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd != -1) (void)::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  return fd;
}

int close_socket(ares_socket_t fd, void*) { return ::close(fd); }

int connect_socket(ares_socket_t fd, const sockaddr* address, ares_socklen_t size, void*) {
  return ::connect(fd, address, size);
}

ares_ssize_t receive(ares_socket_t fd, void* out, std::size_t size, int flags, sockaddr* from,
                     ares_socklen_t* from_size, void*) {
  return ::recvfrom(fd, out, size, flags, from, from_size);
}

ares_ssize_t send_parts(ares_socket_t fd, const iovec* parts, int count, void*) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = static_cast<std::size_t>(count);
  const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  return sent == -1 && errno == ECONNREFUSED ? ::sendmsg(fd, &message, MSG_NOSIGNAL) : sent;
}

constexpr ares_socket_functions socket_functions = {open_socket, close_socket, connect_socket, receive, send_parts};

bool set_servers(ares_channel channel, std::span<const Endpoint> servers) {
  std::vector<ares_addr_port_node> nodes(servers.size());
  for (std::size_t i = 0; i < servers.size(); ++i) {
    const auto bytes = servers[i].address.bytes();
    nodes[i].next = i + 1 < servers.size() ? &nodes[i + 1] : nullptr;
    nodes[i].family = servers[i].address.is_v6() ? AF_INET6 : AF_INET;
    std::memcpy(&nodes[i].addr, bytes.data(), bytes.size());
    nodes[i].udp_port = nodes[i].tcp_port = servers[i].port;
  }
  return nodes.empty() || ares_set_servers_ports(channel, nodes.data()) == ARES_SUCCESS;
}

LookupError error_of_status(int status) noexcept {
  switch (status) {
    case ARES_SUCCESS: return LookupError::none;
    case ARES_ENODATA:
    case ARES_ENOTFOUND: return LookupError::not_found;
    case ARES_ETIMEOUT: return LookupError::no_answer;
    case ARES_EBADNAME: return LookupError::bad_name;
    default: return LookupError::refused;  // c-ares has one status for "no server was of use"
  }
}

LookupError error_of_rcode(std::span<const unsigned char> reply) noexcept {
  switch (reply[3] & 0x0f) {
    case ns_r_noerror: return LookupError::none;
    case ns_r_nxdomain: return LookupError::not_found;
    default: return LookupError::refused;
  }
}

void add(DnsChannel::Answer& out, const IpAddress& address, int ttl) {
  const auto seconds = static_cast<std::uint32_t>(std::max(ttl, 0));
  out.ttl_seconds = out.addresses.empty() ? seconds : std::min(out.ttl_seconds, seconds);
  out.addresses.push_back(address);
}

DnsChannel::Answer parsed(IpAddress::Family family, const unsigned char* reply, int size) {
  DnsChannel::Answer out;
  int count = most_addresses;
  int status = ARES_SUCCESS;
  if (family == IpAddress::Family::v4) {
    std::array<ares_addrttl, most_addresses> found{};
    status = ares_parse_a_reply(reply, size, nullptr, found.data(), &count);
    if (status == ARES_SUCCESS)
      for (int i = 0; i < count; ++i)
        add(out, IpAddress::v4(ntohl(found[static_cast<std::size_t>(i)].ipaddr.s_addr)),
            found[static_cast<std::size_t>(i)].ttl);
  } else {
    std::array<ares_addr6ttl, most_addresses> found{};
    status = ares_parse_aaaa_reply(reply, size, nullptr, found.data(), &count);
    if (status == ARES_SUCCESS)
      for (int i = 0; i < count; ++i) {
        const auto& entry = found[static_cast<std::size_t>(i)];
        add(out, IpAddress::v6(std::span<const std::uint8_t, 16>(entry.ip6addr._S6_un._S6_u8)), entry.ttl);
      }
  }
  out.error = error_of_status(status);
  if (out.error == LookupError::none && out.addresses.empty()) out.error = LookupError::not_found;
  return out;
}
}  // namespace

struct DnsChannel::Question {
  DnsChannel* channel;
  IpAddress::Family family;
  Done done;
};

struct DnsChannel::Socket {
  uv_poll_t handle;
  DnsChannel* channel;
  int fd;
};

DnsChannel::Pointer DnsChannel::open(uv_loop_t* loop, std::span<const Endpoint> servers,
                                     std::chrono::milliseconds first_wait) noexcept {
  static const bool ready = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS;
  if (!ready) return nullptr;
  auto* const channel = new DnsChannel(loop);
  uv_timer_init(loop, &channel->timer_);
  channel->timer_.data = channel;
  channel->handles_ = 1;
  Pointer out(channel);

  // Everything is given, so that c-ares reads no file and takes nothing from the environment.
  char lookups[] = "b";
  char no_file[] = "/dev/null";
  ares_options options{};
  options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES;
  options.timeout = static_cast<int>(std::clamp<std::int64_t>(first_wait.count(), 1, longest_sleep_ms));
  options.tries = tries;
  options.ndots = 1;
  options.lookups = lookups;
  options.resolvconf_path = no_file;
  options.sock_state_cb_data = channel;
  options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
    static_cast<DnsChannel*>(self)->watch(fd, readable != 0, writable != 0);
  };
  const int given = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_SERVERS |
                    ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST | ARES_OPT_NOROTATE |
                    ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF;
  if (ares_init_options(&channel->ares_, &options, given) != ARES_SUCCESS) {
    channel->ares_ = nullptr;
    return nullptr;
  }
  ares_set_socket_functions(channel->ares_, &socket_functions, nullptr);
  if (!set_servers(channel->ares_, servers)) return nullptr;
  return out;
}

void DnsChannel::ask(const std::string& name, IpAddress::Family family, Done done) noexcept {
  unsigned char* query = nullptr;
  int size = 0;
  const int type = family == IpAddress::Family::v4 ? ns_t_a : ns_t_aaaa;
  const int status = ares_create_query(name.c_str(), ns_c_in, type, random_id(), 1, &query, &size, 0);
  if (status != ARES_SUCCESS) {
    done({{}, error_of_status(status), 0});
    return;
  }
  ++in_flight_;
  ares_send(ares_, query, size, on_reply, new Question{this, family, std::move(done)});
  ares_free_string(query);
  arm_timer();
}

void DnsChannel::on_reply(void* pointer, int status, int, unsigned char* reply, int size) noexcept {
  const std::unique_ptr<Question> question(static_cast<Question*>(pointer));
  --question->channel->in_flight_;
  if (question->channel->closing_) return;
  Answer answer;
  answer.error = error_of_status(status);
  if (answer.error == LookupError::none)
    answer.error = size < NS_HFIXEDSZ ? LookupError::refused : error_of_rcode({reply, static_cast<std::size_t>(size)});
  if (answer.error == LookupError::none) answer = parsed(question->family, reply, size);
  question->done(std::move(answer));
}

// Called by c-ares whenever it wants something else of a socket; with nothing wanted right before close(2).
void DnsChannel::watch(int fd, bool readable, bool writable) noexcept {
  const auto found = sockets_.find(fd);
  if (!readable && !writable) {
    if (found == sockets_.end()) return;
    uv_close(reinterpret_cast<uv_handle_t*>(&found->second->handle), [](uv_handle_t* handle) {
      auto* const socket = static_cast<Socket*>(handle->data);
      DnsChannel* const channel = socket->channel;
      delete socket;
      channel->handle_closed();
    });
    sockets_.erase(found);
    return;
  }
  Socket* socket = nullptr;
  if (found != sockets_.end()) {
    socket = found->second;
  } else {
    socket = new Socket{{}, this, fd};
    if (uv_poll_init(loop_, &socket->handle, fd) != 0) {
      delete socket;  // nothing will be read from it: the question ends by its timeout
      return;
    }
    socket->handle.data = socket;
    ++handles_;
    sockets_.emplace(fd, socket);
  }
  uv_poll_start(&socket->handle, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
                [](uv_poll_t* handle, int status, int events) { on_poll(handle, status, events); });
}

void DnsChannel::on_poll(uv_poll_t* handle, int status, int events) noexcept {
  const auto* const socket = static_cast<const Socket*>(handle->data);
  DnsChannel* const channel = socket->channel;
  const int fd = socket->fd;
  const bool failed = status < 0;
  ares_process_fd(channel->ares_, failed || (events & UV_READABLE) != 0 ? fd : ARES_SOCKET_BAD,
                  failed || (events & UV_WRITABLE) != 0 ? fd : ARES_SOCKET_BAD);
  channel->arm_timer();
}

void DnsChannel::on_timer(uv_timer_t* handle) noexcept {
  auto* const channel = static_cast<DnsChannel*>(handle->data);
  ares_process_fd(channel->ares_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  channel->arm_timer();
}

// An armed timer stays: later questions have later timeouts, and asking c-ares costs a walk over all of them.
void DnsChannel::arm_timer() noexcept {
  if (in_flight_ == 0) {
    uv_timer_stop(&timer_);
    return;
  }
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(&timer_)) != 0) return;
  timeval next{};
  if (ares_timeout(ares_, nullptr, &next) == nullptr) return;
  const auto ms = static_cast<std::uint64_t>(next.tv_sec) * 1000 + static_cast<std::uint64_t>(next.tv_usec) / 1000 + 1;
  uv_timer_start(
      &timer_, [](uv_timer_t* handle) { on_timer(handle); }, ms, 0);
}

void DnsChannel::close() noexcept {
  closing_ = true;
  if (ares_ != nullptr) ares_destroy(ares_);  // ends every question and, through watch(), every socket
  uv_close(reinterpret_cast<uv_handle_t*>(&timer_),
           [](uv_handle_t* handle) { static_cast<DnsChannel*>(handle->data)->handle_closed(); });
}

void DnsChannel::handle_closed() noexcept {
  if (--handles_ == 0 && closing_) delete this;
}

}  // namespace towpath
