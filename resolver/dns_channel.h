// One c-ares channel on a libuv loop: A and AAAA questions to given name servers, over UDP, and over TCP for
// answers that do not fit. No search, no hosts file, no environment, no file is read.
//
// c-ares chooses server, retry and timeout; its sockets are uv_poll handles, its clock is a uv_timer. The message id
// comes from getrandom(2): c-ares 1.18 reads /dev/urandom and falls back to rand(), which an
// empty root would get.
//
// Ownership: the channel owns its handles and therefore ends in the loop: dropping the pointer drops the questions
// (their `Done` is destroyed, not called) and frees the memory once the loop has closed the handles.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <uv.h>

#include "base/endpoint.h"
#include "resolver/lookup_error.h"

struct ares_channeldata;

namespace towpath {

class DnsChannel {
 public:
  struct Close {
    void operator()(DnsChannel* channel) const noexcept { channel->close(); }
  };
  using Pointer = std::unique_ptr<DnsChannel, Close>;

  struct Answer {
    std::vector<IpAddress> addresses;  // empty exactly when `error` is not none
    LookupError error = LookupError::none;
    std::uint32_t ttl_seconds = 0;
  };
  using Done = std::function<void(Answer)>;

  // Null when c-ares cannot be set up. `first_wait`: for the first server's first answer; each server is
  // asked `tries` times, each round waits twice as long as the one before.
  static constexpr int tries = 2;
  [[nodiscard]] static Pointer open(uv_loop_t* loop, std::span<const Endpoint> servers,
                                    std::chrono::milliseconds first_wait) noexcept;

  // `done` is called once, possibly before this returns. It must not drop this channel.
  void ask(const std::string& name, IpAddress::Family family, Done done) noexcept;
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }

 private:
  struct Question;
  struct Socket;

  explicit DnsChannel(uv_loop_t* loop) noexcept : loop_(loop) {}
  ~DnsChannel() = default;
  void close() noexcept;
  void watch(int fd, bool readable, bool writable) noexcept;
  void arm_timer() noexcept;
  void handle_closed() noexcept;
  static void on_poll(uv_poll_t* handle, int status, int events) noexcept;
  static void on_timer(uv_timer_t* handle) noexcept;
  static void on_reply(void* question, int status, int timeouts, unsigned char* reply, int size) noexcept;

  uv_loop_t* loop_;
  ares_channeldata* ares_ = nullptr;
  uv_timer_t timer_{};
  std::unordered_map<int, Socket*> sockets_;
  std::size_t handles_ = 0;
  std::size_t in_flight_ = 0;
  bool closing_ = false;
};

}  // namespace towpath
