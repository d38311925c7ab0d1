// The messages of one direction of an HTTP/1 connection, one after the other: bytes in, events out, no socket.
//
//   head      `head` is filled; its views hold until the next call. body_follows() must come before that.
//   body      `bytes` of the body as they stand on the wire, chunk framing included
//   trailers  `head` is filled with the fields of the trailer section. Whatever is written in its place ends with CRLF.
//   end       the message is over; the next one begins with the bytes that were not used
//   more      everything was used, and nothing is complete
//   flaw      the stream is no strict HTTP/1 (flaw() says why); nothing is used any more
//
// An owner that edits writes its own head (and trailers) and passes the body on. Bounded: it keeps at most one head.
// However the bytes are cut, the events are the same, but for the cuts between `body` pieces
// (tests/fuzz/http_messages.cpp).
#pragma once

#include <string>

#include "proto/http_body.h"
#include "proto/http_head.h"

namespace towpath {

class HttpMessages {
 public:
  enum class What : std::uint8_t { head, body, trailers, end, more, flaw };
  struct Event {
    What what;
    std::size_t used;        // of `in`
    std::string_view bytes;  // of `body`
  };

  // requests or responses
  explicit HttpMessages(HttpKind kind) : kind_(kind), scanner_(kind) {}

  [[nodiscard]] Event next(std::string_view in, HttpHead& head);
  // Of the head that was just given: framing_of() it. A flaw in it becomes the stream's.
  void body_follows(const HttpFraming& framing);
  // The sender's side ended: `end` (a body that only this ends is over), `more` (between two messages), or `flaw`.
  [[nodiscard]] What peer_closed();

  // Between two messages, and nothing of the next one has come.
  [[nodiscard]] bool idle() const noexcept { return state_ == State::head && text_.empty(); }
  [[nodiscard]] HttpFlaw flaw() const noexcept { return flaw_; }

 private:
  enum class State : std::uint8_t { head, decision, body, flawed };

  Event gather(std::string_view in, HttpHead& head);
  Event fail(HttpFlaw flaw, std::size_t used);

  HttpKind kind_;
  State state_ = State::head;
  HttpFlaw flaw_ = HttpFlaw::none;
  HttpScanner scanner_;
  HttpBody body_;
  std::string text_;  // of the head or of the trailer section
};

}  // namespace towpath
