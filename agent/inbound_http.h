// One client connection that speaks HTTP/1, and one private connection to the program for every client that is on it.
//
// An ingress mixes its clients on the connections that it keeps open, and a socket has one peer for life. So every
// request is edited (agent/inbound_head) and goes to the program on the connection of *its* client; the program's
// accept shows that client. One exchange after the other: a request is looked at when the response before it has ended,
// so responses are in order by construction and what is pipelined waits in the kernel.
//
//   waiting     for a request head, for headerTimeout from its first byte on (the first one: from accept on)
//   exchange    a request goes one way, its response the other, at the same time
//   streaming   the program has answered 101, or 2xx to CONNECT: what is buffered goes out, then a Relay has both ends
//   finishing   the last response goes out; then FIN, and what the client still sends is read away, or the reset that
//   it
//               would cause could overtake the response
//
// Whatever is no strict HTTP/1 gets 400, and the connection ends. A program that closes its last idle connection closes
// the client's, as it would without us. Sockets are watched edge-triggered; buffers are bounded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/http_messages.h"
#include "agent/inbound.h"
#include "agent/inbound_head.h"

namespace towpath {

class HttpSplit final : WaitingRoom::Guest {
 public:
  // `peer`: who connected, or whom a PROXY header named; `local`: where the program listens.
  HttpSplit(Inbound& inbound, UniqueFd client, const Endpoint& peer, const Endpoint& local, bool trusted);
  ~HttpSplit();
  void start();

 private:
  struct Side : SocketWatch::Watched {
    Side(HttpSplit& split, UniqueFd adopted) : owner(split), fd(std::move(adopted)) {}
    void on_socket_ready(std::uint32_t events) override;
    HttpSplit& owner;
    UniqueFd fd;
    std::string in;   // read and not used yet
    std::string out;  // to be written
    bool watched = false;
    bool readable = true;  // until the kernel says no
    bool writable = true;
    bool hung_up = false;  // an end or an error is to be read
    bool ended = false;    // and was
    bool failed = false;
    bool shut = false;  // we have sent our end
  };
  struct Program final : Side {
    using Side::Side;
    Endpoint client;
    std::uint16_t port = 0;  // of its door; 0: the program has it
    std::uint64_t used_at = 0;
    HttpMessages responses{HttpKind::response};
  };
  enum class Stage : std::uint8_t { waiting, exchange, streaming, finishing, draining, over };

  void on_waited_too_long() override { end(false); }
  void pump();
  bool read(Side& side);
  bool write(Side& side);
  bool from_client();
  bool take_requests();
  bool begin_exchange(const HttpHead& head);
  bool from_program();
  bool take_responses();
  void program_ended();
  void look_at_idle();
  void end_exchange();
  void refuse(HttpFlaw flaw);
  void fail_response(const char* status);
  void finish();
  void step_finish();
  void step_stream();
  Program* program_for(const Endpoint& client);
  void let_go(Program& program, bool broken);
  void make_room();
  bool watch(Side& side);
  void unwatch(Side& side);
  void end(bool broken);

  Inbound& inbound_;
  Side client_;
  Endpoint peer_, local_;
  bool trusted_;
  Stage stage_ = Stage::waiting;
  bool in_room_ = false, pumping_ = false;
  HttpMessages requests_{HttpKind::request};
  std::vector<std::unique_ptr<Program>> programs_, ended_programs_;
  Program* current_ = nullptr;  // of the exchange
  HttpAsked asked_;
  bool request_over_ = false, response_begun_ = false, response_over_ = false;
  bool interim_ = false, last_ = false;
};

}  // namespace towpath
