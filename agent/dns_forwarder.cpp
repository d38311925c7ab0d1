#include "agent/dns_forwarder.h"

#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "agent/uv.h"
#include "base/unique_fd.h"

namespace towpath {

namespace {

constexpr std::size_t most_strangers = 64;  // datagrams per server that are no reply to our question

std::uint16_t random_id() noexcept {
  std::uint16_t id = 0;
  if (getrandom(&id, sizeof id, GRND_NONBLOCK) != sizeof id) id = static_cast<std::uint16_t>(uv_hrtime() >> 4);
  return id;
}

// A server that says this has nothing to say about the name: another may.
bool of_no_use(dns::Rcode code) noexcept { return code != dns::Rcode::ok && code != dns::Rcode::no_such_name; }

}  // namespace

// One question: server after server, each by UDP and perhaps then by TCP.
class DnsForwarder::Asked {
 public:
  Asked(DnsForwarder& owner, std::span<const std::byte> query, const dns::Question& question,
        std::vector<Endpoint> servers, bool whole, Done done)
      : owner_(owner),
        query_(query.begin(), query.end()),
        question_(question),
        servers_(std::move(servers)),
        whole_(whole),
        done_(std::move(done)) {}

  bool start() {
    if (!timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(owner_.loop_, handle); })) return false;
    again_in(0);  // the first step too comes from the loop
    return true;
  }
  Done& done() noexcept { return done_; }

 private:
  void again_in(std::uint64_t ms) {
    uv_timer_start(
        timer_.get(), [](uv_timer_t* handle) { static_cast<Asked*>(handle->data)->next_server(); }, ms, 0);
  }

  bool open(int kind, const Endpoint& server) {
    poll_.reset();
    sockaddr_storage address;
    const int domain = server.native_domain();
    const socklen_t size = server.to(address, domain);
    fd_.reset(socket(domain, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd_) return false;
    if (connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 && errno != EINPROGRESS) return false;
    return poll_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(owner_.loop_, handle, fd_.get()); });
  }

  void watch(int events, void (*callback)(Asked&)) {
    callback_ = callback;
    uv_poll_start(poll_.get(), events, [](uv_poll_t* handle, int, int) {
      auto& self = *static_cast<Asked*>(handle->data);
      self.callback_(self);
    });
  }

  // The last of these may have freed the object: nothing may follow a call.
  void next_server() {
    while (next_ < servers_.size()) {
      const Endpoint& server = servers_[next_++];
      id_ = random_id();
      query_[0] = static_cast<std::byte>(id_ >> 8);
      query_[1] = static_cast<std::byte>(id_ & 0xff);
      strangers_ = 0;
      if (!open(SOCK_DGRAM, server) || send(fd_.get(), query_.data(), query_.size(), MSG_NOSIGNAL) < 0) continue;
      watch(UV_READABLE, [](Asked& self) { self.read_datagrams(); });
      return again_in(static_cast<std::uint64_t>(owner_.per_server_.count()));
    }
    finish(std::move(useless_));
  }

  void read_datagrams() {
    std::byte buffer[dns::max_message];
    for (;;) {
      const ssize_t size = recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (size < 0) return next_server();  // refused: an ICMP error for this socket's one question
      const std::span<const std::byte> reply(buffer, static_cast<std::size_t>(size));
      dns::ReplyHead head;
      if (dns::is_reply(reply, id_, question_, head)) return heard(reply, head);
      if (++strangers_ >= most_strangers) return next_server();
    }
  }

  void heard(std::span<const std::byte> reply, const dns::ReplyHead& head) {
    if (of_no_use(head.code) && next_ < servers_.size()) {
      useless_.assign(reply.begin(), reply.end());
      return next_server();
    }
    if (head.truncated && whole_) {
      useless_.assign(reply.begin(), reply.end());  // better than nothing, should TCP fail
      return fetch_whole();
    }
    finish({reply.begin(), reply.end()});
  }

  void fetch_whole() {
    if (!open(SOCK_STREAM, servers_[next_ - 1])) return next_server();
    stream_.clear();
    sent_ = 0;
    watch(UV_WRITABLE, [](Asked& self) { self.write_stream(); });
    again_in(static_cast<std::uint64_t>(owner_.per_server_.count()));
  }

  void write_stream() {
    std::vector<std::byte> framed;
    framed.push_back(static_cast<std::byte>(query_.size() >> 8));
    framed.push_back(static_cast<std::byte>(query_.size() & 0xff));
    framed.insert(framed.end(), query_.begin(), query_.end());
    const ssize_t size = send(fd_.get(), framed.data() + sent_, framed.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size < 0) return next_server();
    sent_ += static_cast<std::size_t>(size);
    if (sent_ == framed.size()) watch(UV_READABLE, [](Asked& self) { self.read_stream(); });
  }

  void read_stream() {
    std::byte buffer[16384];
    for (;;) {
      const ssize_t size = recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (size <= 0) return next_server();
      stream_.insert(stream_.end(), buffer, buffer + size);
      if (stream_.size() < 2) continue;
      const std::size_t length =
          std::to_integer<std::size_t>(stream_[0]) << 8 | std::to_integer<std::size_t>(stream_[1]);
      if (stream_.size() < 2 + length) continue;
      const std::span<const std::byte> reply(stream_.data() + 2, length);
      dns::ReplyHead head;
      if (!dns::is_reply(reply, id_, question_, head)) return next_server();
      return finish({reply.begin(), reply.end()});
    }
  }

  void finish(std::vector<std::byte> reply) {
    if (reply.size() >= 2) {
      reply[0] = static_cast<std::byte>(question_.id >> 8);
      reply[1] = static_cast<std::byte>(question_.id & 0xff);
    }
    owner_.over(*this, std::move(reply));
  }

  DnsForwarder& owner_;
  std::vector<std::byte> query_;
  dns::Question question_;
  std::vector<Endpoint> servers_;
  bool whole_;
  Done done_;
  std::size_t next_ = 0, strangers_ = 0, sent_ = 0;
  std::uint16_t id_ = 0;
  std::vector<std::byte> useless_;  // a reply that is passed on when no server has a better one
  std::vector<std::byte> stream_;
  void (*callback_)(Asked&) = nullptr;
  UniqueFd fd_;
  UvPoll poll_;  // closed before the descriptor
  UvTimer timer_;
};

DnsForwarder::DnsForwarder(uv_loop_t* loop, std::chrono::milliseconds per_server)
    : loop_(loop), per_server_(per_server) {}

DnsForwarder::~DnsForwarder() = default;

bool DnsForwarder::forward(std::span<const std::byte> query, const dns::Question& question,
                           std::vector<Endpoint> servers, bool whole, Done done) {
  if (asked_.size() >= most || query.size() < dns::header_size) return false;
  auto asked = std::make_unique<Asked>(*this, query, question, std::move(servers), whole, std::move(done));
  if (!asked->start()) return false;
  Asked* const at = asked.get();
  asked_.emplace(at, std::move(asked));
  return true;
}

void DnsForwarder::over(Asked& asked, std::vector<std::byte> reply) {
  const auto at = asked_.find(&asked);
  const std::unique_ptr<Asked> held = std::move(at->second);
  asked_.erase(at);
  held->done()(std::move(reply));
}

}  // namespace towpath
