// Drives HttpMessages over plain bytes as a relay does, and writes down what it said.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "agent/http_messages.h"

namespace towpath::testing {

struct HttpStory {
  std::string text;               // heads, bodies as they stand on the wire, trailers
  std::vector<std::size_t> ends;  // the offset behind each message
  HttpFlaw flaw = HttpFlaw::none;
  HttpMessages::What at_end = HttpMessages::What::more;  // what the end of the connection meant
  const char* broken = nullptr;

  friend bool operator==(const HttpStory&, const HttpStory&) = default;
};

inline void write_fields(const HttpHead& head, std::string& out) {
  for (const HttpField& each : head.fields()) out.append(each.name).append("=").append(each.value).append(";");
}

// `asked`: of responses, one per final answer; the last one goes on for ever. window_end(at): up to where the stream
// has come when the reader stands at `at`.
template <class WindowEnd>
HttpStory read_http(HttpKind kind, const std::vector<HttpAsked>& asked, std::string_view stream, WindowEnd window_end) {
  using What = HttpMessages::What;
  HttpStory out;
  HttpMessages messages(kind);
  HttpHead head;
  std::size_t at = 0, answered = 0, silent = 0;
  bool interim = false;
  for (;;) {
    const std::string_view window = stream.substr(at, window_end(at) - at);
    const HttpMessages::Event event = messages.next(window, head);
    at += event.used;
    if (event.used > window.size()) out.broken = "took more than there was";
    silent = event.used == 0 ? silent + 1 : 0;
    if (silent > 4) out.broken = "goes round in circles";
    if (out.broken != nullptr) return out;
    switch (event.what) {
      case What::head: {
        HttpFraming framing;
        if (kind == HttpKind::request) {
          out.text.append("[").append(head.method()).append(" ").append(head.target());
          framing = framing_of(head);
        } else {
          out.text.append("[").append(std::to_string(head.status()));
          interim = is_interim(head.status());
          const HttpAsked none;
          framing = framing_of(head, asked.empty() ? none : asked[std::min(answered, asked.size() - 1)]);
        }
        out.text.append(head.is_1_1() ? " 1.1 " : " 1.0 ").append(head.persists() ? "keep " : "close ");
        write_fields(head, out.text);
        out.text.append("]");
        messages.body_follows(framing);
        break;
      }
      case What::body: out.text.append(event.bytes); break;
      case What::trailers:
        out.text.append("{");
        write_fields(head, out.text);
        out.text.append("}");
        break;
      case What::end:
        if (!interim) ++answered;
        interim = false;
        out.ends.push_back(at);
        break;
      case What::more:
        if (event.used != window.size()) out.broken = "wants more and leaves some";
        if (at < stream.size()) break;
        out.at_end = messages.peer_closed();
        out.flaw = messages.flaw();
        return out;
      case What::flaw:
        out.at_end = What::flaw;
        out.flaw = messages.flaw();
        if (out.flaw == HttpFlaw::none) out.broken = "a flaw without a reason";
        return out;
    }
  }
}

inline HttpStory read_whole(HttpKind kind, const std::vector<HttpAsked>& asked, std::string_view stream) {
  return read_http(kind, asked, stream, [&](std::size_t) { return stream.size(); });
}

inline HttpStory read_bytes(HttpKind kind, const std::vector<HttpAsked>& asked, std::string_view stream) {
  return read_http(kind, asked, stream, [&](std::size_t at) { return std::min(at + 1, stream.size()); });
}

inline HttpStory read_cut(HttpKind kind, const std::vector<HttpAsked>& asked, std::string_view stream,
                          std::size_t cut) {
  return read_http(kind, asked, stream, [&](std::size_t at) { return at < cut ? cut : stream.size(); });
}

}  // namespace towpath::testing
