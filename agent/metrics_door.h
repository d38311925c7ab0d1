// GET /metrics over HTTP/1: the smallest server that a scraper is happy with. Whoever reaches the address may ask, and
// learns counters, nothing else.
//
// One request per connection. A head of at most 8 KB, read as strictly as everything else of HTTP here; five seconds
// for it all; at most 32 connections, the oldest of which makes room for another.
#pragma once

#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "agent/acceptor.h"
#include "agent/socket_watch.h"
#include "agent/uv.h"
#include "base/endpoint.h"
#include "base/unique_fd.h"
#include "proto/http_head.h"

namespace towpath {

// PORT or :PORT (of 127.0.0.1), ADDRESS:PORT or [ADDRESS]:PORT. No address: the text is none of these.
[[nodiscard]] Endpoint parse_metrics_address(std::string_view text);
// A listening socket, or none and the reason.
[[nodiscard]] UniqueFd listen_for_metrics(const Endpoint& at, std::string& why);

class MetricsDoor {
 public:
  using Render = std::function<std::string()>;
  static constexpr std::size_t most_connections = 32;
  static constexpr std::size_t longest_head = 8192;
  static constexpr std::uint64_t deadline_ms = 5000;

  // Borrows all. Does nothing when the descriptor is none.
  MetricsDoor(uv_loop_t* loop, SocketWatch& sockets, int listener, Render render);

  // After the loop has left all callbacks: frees what ended.
  void sweep() { ended_.clear(); }

 private:
  class Connection final : public SocketWatch::Watched {
   public:
    Connection(MetricsDoor& door, UniqueFd fd);
    ~Connection();
    [[nodiscard]] bool start();
    bool close();  // false: it was closed before
    void on_socket_ready(std::uint32_t events) override;
    std::list<Connection>::iterator self;

   private:
    bool read();
    bool write();
    void respond(std::string_view status, std::string_view more, std::string body, bool head_only = false);
    void answer();

    MetricsDoor& door_;
    UniqueFd fd_;
    UvTimer timer_;
    HttpScanner scanner_{HttpKind::request};
    std::string head_;
    std::string out_;  // empty: nothing to say yet
    std::size_t sent_ = 0, discarded_ = 0;
    bool watched_ = false;
  };

  void accept();
  void end(Connection& connection);

  uv_loop_t* loop_;
  SocketWatch& sockets_;
  Render render_;
  Acceptor listener_;
  std::list<Connection> connections_, ended_;
};

}  // namespace towpath
