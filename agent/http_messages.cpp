#include "agent/http_messages.h"

namespace towpath {

HttpMessages::Event HttpMessages::fail(HttpFlaw flaw, std::size_t used) {
  flaw_ = flaw;
  state_ = State::flawed;
  return {What::flaw, used, {}};
}

void HttpMessages::body_follows(const HttpFraming& framing) {
  if (state_ != State::decision) return;
  if (framing.flaw != HttpFlaw::none) return void(fail(framing.flaw, 0));
  body_ = HttpBody(framing);
  state_ = State::body;
}

HttpMessages::Event HttpMessages::next(std::string_view in, HttpHead& head) {
  switch (state_) {
    case State::flawed: return {What::flaw, 0, {}};
    case State::head: return gather(in, head);
    case State::decision: return fail(HttpFlaw::truncated, 0);  // the owner did not say what follows
    case State::body: break;
  }
  if (body_.over()) {
    // The memory of an ordinary head is kept, that of a giant one is not.
    if (text_.capacity() > 4096) text_ = {};
    text_.clear();
    scanner_ = HttpScanner(kind_);
    state_ = State::head;
    return {What::end, 0, {}};
  }
  if (body_.in_trailers()) {
    const std::size_t used = body_.feed(in);
    text_.append(in.substr(0, used));
    if (body_.flaw() != HttpFlaw::none) return fail(body_.flaw(), used);
    if (!body_.over()) return {What::more, used, {}};
    const HttpFlaw flaw = head.parse(HttpKind::trailers, text_);
    return flaw == HttpFlaw::none ? Event{What::trailers, used, {}} : fail(flaw, used);
  }
  if (in.empty()) return {What::more, 0, {}};
  const std::size_t used = body_.feed(in);
  if (used == 0) return fail(body_.flaw(), 0);
  if (body_.in_trailers()) text_.clear();
  // A flaw behind good bytes is told by the next call.
  return {What::body, used, in.substr(0, used)};
}

HttpMessages::Event HttpMessages::gather(std::string_view in, HttpHead& head) {
  const std::size_t used = scanner_.feed(in);
  text_.append(in.substr(0, used));
  if (scanner_.flaw() != HttpFlaw::none) return fail(scanner_.flaw(), used);
  if (!scanner_.complete()) return {What::more, used, {}};
  const HttpFlaw flaw = head.parse(kind_, text_);
  if (flaw != HttpFlaw::none) return fail(flaw, used);
  state_ = State::decision;
  return {What::head, used, {}};
}

HttpMessages::What HttpMessages::peer_closed() {
  if (state_ == State::flawed) return What::flaw;
  if (idle()) return What::more;
  if (state_ == State::body) {
    body_.peer_closed();
    if (body_.over()) return What::end;
    return fail(body_.flaw(), 0).what;
  }
  return fail(HttpFlaw::truncated, 0).what;
}

}  // namespace towpath
