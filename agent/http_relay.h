// A program's connection to port 80, carried by a proxy that is asked in absolute form: every request is rewritten
// (agent/plain_edit), one is under way at a time, and a pipelined one waits in the program's own socket buffer.
//
//   asking     between requests: the next one's head is awaited. A proxy that closes now, or says anything, is dropped,
//              and dialled again when there is a request to send
//   exchange   a request is on its way, or its answer. Nothing of it has left yet and the proxy closes: dialled again,
//              once. Later: the program's connection is reset, as it must not take what came for the whole
//   tunnelling CONNECT was sent for an upgrade. Granted: the request goes through as it was written, and a plain relay
//              takes over. Refused: it goes in absolute form, without the wish
//   closing    the last answer is out: FIN, and what the program still says is read and thrown away, so that no reset
//              takes the answer from it
//   over       only the host may touch it, to free it
//
// Some proxies close after each answer and do not say so (tinyproxy), which the program cannot know of. So on a
// connection that has carried an answer, a safe request without a body that gets none is sent once more on a fresh one,
// and any other goes there only when the proxy promised to keep it.
//
// Each of the four buffers is filled only up to its limit, and read from a socket only when there is room:
// back-pressure is TCP's own.
#pragma once

#include <functional>

#include "agent/conversation.h"
#include "agent/plain_edit.h"
#include "agent/proxy_link.h"
#include "agent/relay.h"
#include "agent/uv.h"
#include "config/policy.h"
#include "proto/http_connect.h"

namespace towpath {

class HttpRelay final : public SocketWatch::Watched, public ProxyLink::Owner {
 public:
  struct Order {
    std::shared_ptr<const Policy> policy;  // the proxy points into it
    const ProxyUrl* proxy = nullptr;
    Endpoint proxy_address;  // where the proxy was reached
    std::string name;        // of the destination; empty: only `target` is known
    Endpoint target;
    Asker asker;
    UniqueFd program;
    UniqueFd link;
    std::unique_ptr<TlsChannel> tls;  // null: in the clear
  };
  class Host {
   public:
    virtual uv_loop_t* relay_loop() = 0;
    virtual SocketWatch& relay_sockets() = 0;
    // Of the policy that the relay began under. Null with the reason when its TLS settings cannot be used.
    virtual std::shared_ptr<TlsClient> relay_tls(const HttpRelay& relay, std::string& why) = 0;
    // One line about this relay. `hint` may be empty.
    virtual void on_trouble(const HttpRelay& relay, std::string_view event, const std::string& reason,
                            std::string_view hint) = 0;
    // May CONNECT to port 80 be tried at this proxy? What it said then.
    virtual bool may_tunnel(const HttpRelay& relay) = 0;
    virtual void on_tunnel(const HttpRelay& relay, bool granted) = 0;
    // The proxy has begun to answer on a connection of which nothing was known; or it cannot be reached again, or
    // closed before a word, and `cause` says how. `asked_ms`: when it was asked (uv_now).
    virtual void on_heard(const HttpRelay& relay, std::uint64_t asked_ms) = 0;
    virtual void on_unheard(const HttpRelay& relay, std::uint64_t asked_ms, const std::string& cause) = 0;
    // The rest is bytes.
    virtual void on_raw(UniqueFd program, UniqueFd link, std::unique_ptr<TlsChannel> tls, Relay::First first) = 0;
    // Once, from the loop; the relay may be freed after the running loop iteration.
    virtual void on_relay_over(HttpRelay& relay) = 0;

   protected:
    ~Host() = default;
  };

  HttpRelay(Host& host, Order order);
  ~HttpRelay();
  void start();

  [[nodiscard]] const Order& order() const noexcept { return order_; }
  // Null when the proxy has no credentials; borrows from `proxy`.
  static const ProxyLogin* login_of(const ProxyUrl& proxy, ProxyLogin& login);

  void on_socket_ready(std::uint32_t) override { pump(); }
  void on_link() override;

 private:
  enum class State : std::uint8_t { asking, exchange, tunnelling, closing, over };

  struct Buffer {
    std::string bytes;
    std::size_t begin = 0;
    [[nodiscard]] std::string_view view() const { return std::string_view(bytes).substr(begin); }
    [[nodiscard]] bool empty() const noexcept { return begin == bytes.size(); }
    [[nodiscard]] bool has_room() const noexcept;
    void take(std::size_t size);
  };

  void pump();
  bool read_program();
  bool write_program();
  bool read_link();
  bool write_link();
  bool digest_requests();
  bool digest_answers();
  bool digest_request();
  bool digest_answer();
  void on_request(const HttpHead& head);
  void on_answer(const HttpHead& head);
  void forward(const HttpHead& head);
  void on_program_end();
  void on_link_end(bool failed);
  void on_answer_end();
  void give_up();
  void finish_exchange();
  void open_link();
  void begin_tunnel();
  bool drive_tunnel();
  void tunnel_over(bool granted);
  void no_upgrade();
  void no_tunnel();
  void begin_closing();
  void set_deadline();
  void on_deadline();
  void rearm(bool again);
  void trouble(std::string_view event, const std::string& reason, std::string_view hint = {});
  void end(bool broken);

  Host& host_;
  Order order_;
  PlainEdit edit_;
  ProxyLink link_;
  UvTimer deadline_;  // of silence before the first request, of a dial, of CONNECT, of closing
  State state_ = State::asking;
  HttpMessages requests_{HttpKind::request}, answers_{HttpKind::response};
  Buffer from_program_, to_link_, from_link_, to_program_;
  std::unique_ptr<HttpConnectClient> connect_;  // while tunnelling
  std::string held_;                            // the head of the request that waits for the tunnel
  std::uint32_t program_events_ = 0;
  bool program_watched_ = false;
  bool program_ended_ = false;  // its FIN was read
  bool said_fin_ = false;       // and ours was sent
  bool any_request_ = false;
  bool told_407_ = false;
  // Of the exchange.
  HttpAsked asked_;
  bool request_1_1_ = true, request_stays_ = true, request_done_ = false;
  bool sent_any_ = false, redialled_ = false, link_broke_ = false;
  bool interim_ = false, answer_begun_ = false, answer_done_ = false;
  bool link_stays_ = false, stays_ = false;
  std::string resend_;  // the request, as long as it may be sent once more
  // Of the connection to the proxy.
  bool link_used_ = false, link_promised_ = false;
  std::uint64_t asked_ms_ = 0;
};

}  // namespace towpath
