#include "agent/metrics_door.h"

#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "config/text.h"

namespace towpath {

Endpoint parse_metrics_address(std::string_view text) {
  const auto colon = text.rfind(':');
  std::string_view host = colon == text.npos ? std::string_view{} : text.substr(0, colon);
  const auto port = parse_port(colon == text.npos ? text : text.substr(colon + 1));
  if (!port) return {};
  if (host.empty()) return {IpAddress::v4(INADDR_LOOPBACK), *port};
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  const IpAddress address = IpAddress::parse(host);
  // Without brackets "::1" would be port 1 of "::".
  return address && address.is_v6() == brackets ? Endpoint{address, *port} : Endpoint{};
}

UniqueFd listen_for_metrics(const Endpoint& at, std::string& why) {
  sockaddr_storage address;
  const int domain = at.native_domain();
  const socklen_t size = at.to(address, domain);
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  // What an earlier agent's scrapes left in TIME_WAIT does not count; another listener does.
  if (fd) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (fd && bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(fd.get(), 16) == 0) return fd;
  char text[Endpoint::text_size];
  why = "cannot serve metrics on " + std::string(at.format(text)) + ": " + std::strerror(errno);
  if (errno == EADDRINUSE) why += ": choose another port, one per towpath run";
  return {};
}

MetricsDoor::MetricsDoor(uv_loop_t* loop, SocketWatch& sockets, int listener, Render render)
    : loop_(loop), sockets_(sockets), render_(std::move(render)) {
  if (listener >= 0) (void)listener_.open(loop, listener, [this] { accept(); });
}

void MetricsDoor::accept() {
  for (std::size_t i = 0; i < most_connections; ++i) {
    UniqueFd fd = listener_.next(nullptr);
    if (!fd) return;
    if (connections_.size() >= most_connections) end(connections_.front());
    Connection& fresh = connections_.emplace_back(*this, std::move(fd));
    fresh.self = std::prev(connections_.end());
    if (!fresh.start()) end(fresh);
  }
}

// Kept until the loop has left the callback that this may be.
void MetricsDoor::end(Connection& connection) {
  if (!connection.close()) return;
  ended_.splice(ended_.end(), connections_, connection.self);
}

MetricsDoor::Connection::Connection(MetricsDoor& door, UniqueFd fd) : door_(door), fd_(std::move(fd)) {}

MetricsDoor::Connection::~Connection() { close(); }

bool MetricsDoor::Connection::close() {
  if (!fd_) return false;
  if (watched_) door_.sockets_.drop(fd_.get(), this);
  timer_.reset();
  fd_.reset();
  return true;
}

bool MetricsDoor::Connection::start() {
  watched_ = door_.sockets_.watch(fd_.get(), EPOLLIN, this);
  if (!watched_) return false;
  timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(door_.loop_, handle); });
  uv_timer_start(
      timer_.get(),
      [](uv_timer_t* handle) {
        auto& late = *static_cast<Connection*>(handle->data);
        late.door_.end(late);
      },
      deadline_ms, 0);
  return true;
}

// False: it is over.
bool MetricsDoor::Connection::read() {
  char bytes[4096];
  for (;;) {
    const ssize_t got = recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    // A client that has shut down its side still reads ours.
    if (got == 0) return sent_ < out_.size() && door_.sockets_.change(fd_.get(), EPOLLOUT, this);
    // Behind the head: of no interest, but unread bytes would make the kernel reset the connection, answer and all.
    if (!out_.empty()) {
      discarded_ += static_cast<std::size_t>(got);
      if (discarded_ > longest_head) return false;
      continue;
    }
    head_.append(bytes, scanner_.feed({bytes, static_cast<std::size_t>(got)}));
    if (scanner_.flaw() != HttpFlaw::none) {
      const std::uint16_t status = status_of(scanner_.flaw());
      respond(status == 505   ? "505 HTTP Version Not Supported"
              : status == 431 ? "431 Request Header Fields Too Large"
                              : "400 Bad Request",
              {}, std::string(text_of(scanner_.flaw())) + "\n");
    } else if (head_.size() > longest_head) {
      respond("431 Request Header Fields Too Large", {}, "the head is too long\n");
    } else if (scanner_.complete()) {
      answer();
    }
    if (!out_.empty() && !write()) return false;
  }
}

void MetricsDoor::Connection::answer() {
  HttpHead head;
  if (const HttpFlaw flaw = head.parse(HttpKind::request, head_); flaw != HttpFlaw::none)
    return respond("400 Bad Request", {}, std::string(text_of(flaw)) + "\n");
  const bool head_only = head.method() == "HEAD";
  if (head.method() != "GET" && !head_only)
    return respond("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "GET or HEAD\n");
  if (head.target().substr(0, head.target().find('?')) != "/metrics")
    return respond("404 Not Found", {}, "there is only /metrics\n", head_only);
  respond("200 OK", {}, door_.render_(), head_only);
}

void MetricsDoor::Connection::respond(std::string_view status, std::string_view more, std::string body,
                                      bool head_only) {
  const bool found = status.substr(0, 3) == "200";
  out_ = "HTTP/1.1 " + std::string(status) + "\r\nContent-Type: text/plain; " +
         (found ? "version=0.0.4; charset=utf-8" : "charset=utf-8") +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n" + std::string(more) +
         "\r\n";
  if (!head_only) out_ += body;
}

bool MetricsDoor::Connection::write() {
  while (sent_ < out_.size()) {
    const ssize_t moved = send(fd_.get(), out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return errno == EAGAIN && door_.sockets_.change(fd_.get(), EPOLLIN | EPOLLOUT, this);
    sent_ += static_cast<std::size_t>(moved);
  }
  shutdown(fd_.get(), SHUT_WR);
  return door_.sockets_.change(fd_.get(), EPOLLIN, this);  // its end, or the deadline
}

void MetricsDoor::Connection::on_socket_ready(std::uint32_t events) {
  if (!fd_) return;
  if ((events & EPOLLOUT) != 0 && sent_ < out_.size() && !write()) return door_.end(*this);
  if (!read()) door_.end(*this);
}

}  // namespace towpath
