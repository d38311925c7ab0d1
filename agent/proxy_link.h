// A connection of the agent's own to a proxy, in the clear or in TLS, that can be made again. It holds no bytes.
//
//   down      no connection
//   dialling  TCP is connecting
//   securing  the TLS handshake
//   up        bytes move
//
// Events come to the owner, who then calls advance() (not up) or read() and write() (up), and says with watch() what
// it waits for.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "agent/socket_watch.h"
#include "agent/tls.h"
#include "base/endpoint.h"
#include "base/unique_fd.h"

namespace towpath {

class ProxyLink final : public SocketWatch::Watched {
 public:
  enum class State : std::uint8_t { down, dialling, securing, up };
  enum class Io : std::uint8_t { moved, would_block, ended, failed };

  class Owner {
   public:
    virtual void on_link() = 0;

   protected:
    ~Owner() = default;
  };

  ProxyLink(SocketWatch& sockets, Owner& owner) : sockets_(sockets), owner_(owner) {}
  ~ProxyLink() { drop(); }

  // One that stands already.
  void adopt(UniqueFd fd, std::unique_ptr<TlsChannel> tls);
  // `tls` may be null: in the clear. `proxy` must outlive the attempt to connect. False: why().
  [[nodiscard]] bool dial(const Endpoint& to, const ProxyUrl& proxy, std::shared_ptr<TlsClient> tls);
  // On an event while dialling or securing. False: it failed, why() says how, and the link is down.
  [[nodiscard]] bool advance();
  void drop();
  // Resets the connection: the peer must not take what it has for all of it.
  void abort();
  // Gives the connection away.
  void release(UniqueFd& fd, std::unique_ptr<TlsChannel>& tls);

  [[nodiscard]] State state() const noexcept { return state_; }
  [[nodiscard]] const std::string& why() const noexcept { return why_; }

  [[nodiscard]] Io read(std::span<char> into, std::size_t& moved);
  [[nodiscard]] Io write(std::string_view bytes, std::size_t& moved);
  // Up: waits for bytes, for room, or for the loop to come round (`again`). Not up: what the handshake needs.
  [[nodiscard]] bool watch(bool for_bytes, bool for_room, bool again);

  void on_socket_ready(std::uint32_t) override { owner_.on_link(); }

 private:
  [[nodiscard]] bool secure();
  [[nodiscard]] bool fail(std::string why);

  SocketWatch& sockets_;
  Owner& owner_;
  State state_ = State::down;
  UniqueFd fd_;
  std::unique_ptr<TlsChannel> tls_;
  std::shared_ptr<TlsClient> client_;  // null: in the clear
  const ProxyUrl* proxy_ = nullptr;
  std::string why_;
  std::uint32_t handshake_wants_ = 0;
  std::uint32_t events_ = 0;
  bool watched_ = false;
  bool read_wants_write_ = false, write_wants_read_ = false;
};

}  // namespace towpath
