#include "proto/wire.h"

#include <cstring>

#include "base/bytes.h"

namespace towpath::wire {

namespace {

void put(ByteWriter& w, const IpAddress& address) noexcept {
  std::uint8_t bytes[16] = {};
  const auto from = address.bytes();
  std::memcpy(bytes, from.data(), from.size());
  w.put(static_cast<std::uint8_t>(from.size()));
  w.put(address.scope());
  w.put(bytes);
}

IpAddress take_address(ByteReader& r) noexcept {
  struct Bytes {
    std::uint8_t at[16];
  };
  const auto size = r.take<std::uint8_t>();
  const auto scope = r.take<std::uint32_t>();
  const auto bytes = r.take<Bytes>();
  if (size == 0) return {};
  if (size == 16) return IpAddress::v6(bytes.at, scope);
  if (size != 4) {
    r.fail();
    return {};
  }
  return IpAddress::v4(std::uint32_t{bytes.at[0]} << 24 | std::uint32_t{bytes.at[1]} << 16 |
                       std::uint32_t{bytes.at[2]} << 8 | bytes.at[3]);
}

void put(ByteWriter& w, const Endpoint& endpoint) noexcept {
  put(w, endpoint.address);
  w.put(endpoint.port);
}

Endpoint take_endpoint(ByteReader& r) noexcept {
  Endpoint out;
  out.address = take_address(r);
  out.port = r.take<std::uint16_t>();
  return out;
}

void put_text(ByteWriter& w, std::string_view text) noexcept {
  w.put(static_cast<std::uint16_t>(text.size()));
  w.text(text);
}

std::string_view take_text(ByteReader& r) noexcept {
  const auto size = r.take<std::uint16_t>();
  if (size > max_name) {
    r.fail();
    return {};
  }
  return r.text(size);
}

void put_bytes(ByteWriter& w, std::span<const std::byte> bytes) noexcept {
  w.put(static_cast<std::uint16_t>(bytes.size()));
  w.text({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::span<const std::byte> take_query(ByteReader& r) noexcept {
  const auto size = r.take<std::uint16_t>();
  if (size > max_query) {
    r.fail();
    return {};
  }
  const std::string_view out = r.text(size);
  return {reinterpret_cast<const std::byte*>(out.data()), out.size()};
}

bool take_bool(ByteReader& r) noexcept {
  const auto value = r.take<std::uint8_t>();
  if (value > 1) r.fail();
  return value == 1;
}

// A count that is larger than its array is a lie.
template <class T>
T take_count(ByteReader& r, std::size_t most) noexcept {
  const auto count = r.take<T>();
  if (count > most) {
    r.fail();
    return 0;
  }
  return count;
}

}  // namespace

std::size_t encode(std::span<std::byte> out, const Message& ask) noexcept {
  ByteWriter w(out);
  w.put(magic);
  w.put(version);
  w.put(ask.kind);
  w.put(ask.token);
  switch (ask.kind) {
    case Ask::hello:
    case Ask::clients:
    case Ask::sweep:
    case Ask::took:
    case Ask::detach: break;
    case Ask::dialled: w.put(ask.dialled_errno); break;
    case Ask::connect:
      put(w, ask.connect.target);
      w.put(ask.connect.cookie);
      w.put(ask.connect.fd);
      w.put(ask.connect.domain);
      w.put(static_cast<std::uint8_t>(ask.connect.blocking));
      w.put(static_cast<std::uint8_t>(ask.connect.v6_only));
      w.put(ask.connect.registration_count);
      for (std::size_t i = 0; i < ask.connect.registration_count && i < max_registrations; ++i)
        w.put(ask.connect.registrations[i]);
      break;
    case Ask::epoll:
      w.put(ask.epoll.cookie);
      w.put(ask.epoll.operation);
      w.put(ask.epoll.registration);
      break;
    case Ask::closing:
      w.put(ask.closing.cookie);
      w.put(ask.closing.fd);
      break;
    case Ask::watch:
      w.put(ask.watch.count);
      for (std::size_t i = 0; i < ask.watch.count && i < max_watched; ++i) w.put(ask.watch.cookies[i]);
      break;
    case Ask::name:
      w.put(ask.name.family);
      put_text(w, ask.name.name);
      break;
    case Ask::learn:
      put_text(w, ask.learn.name);
      w.put(ask.learn.count);
      for (std::size_t i = 0; i < ask.learn.count && i < max_learnt; ++i) put(w, ask.learn.addresses[i]);
      break;
    case Ask::reverse: put(w, ask.reverse); break;
    case Ask::datagram:
      put(w, ask.datagram.target);
      w.put(ask.datagram.cookie);
      w.put(ask.datagram.domain);
      w.put(static_cast<std::uint8_t>(ask.datagram.connects));
      break;
    case Ask::query: put_bytes(w, ask.query); break;
    case Ask::supervise: w.put(ask.supervise_flavour); break;
    case Ask::hold: w.put(ask.hold.listener); break;
    case Ask::claim:
      w.put(ask.claim.listener);
      put(w, ask.claim.bell);
      break;
    case Ask::status:
      w.put(ask.status.format);
      w.put(ask.status.pid);
      break;
    case Ask::no_net:
      w.put(ask.no_net.step);
      w.put(ask.no_net.error);
      break;
    case Ask::look: w.put(ask.look.address); break;
  }
  return w.ok() ? w.size() : 0;
}

bool decode(std::span<const std::byte> in, Message& out) noexcept {
  ByteReader r(in);
  if (r.take<std::uint32_t>() != magic || r.take<std::uint16_t>() != version) return false;
  const auto kind = r.take<std::uint8_t>();
  if (kind >= ask_count) return false;
  out.kind = static_cast<Ask>(kind);
  out.token = r.take<Token>();
  switch (out.kind) {
    case Ask::hello:
    case Ask::clients:
    case Ask::sweep:
    case Ask::took:
    case Ask::detach: break;
    case Ask::dialled: out.dialled_errno = r.take<std::int32_t>(); break;
    case Ask::connect:
      out.connect.target = take_endpoint(r);
      out.connect.cookie = r.take<std::uint64_t>();
      out.connect.fd = r.take<std::int32_t>();
      out.connect.domain = r.take<std::int32_t>();
      out.connect.blocking = take_bool(r);
      out.connect.v6_only = take_bool(r);
      out.connect.registration_count = take_count<std::uint8_t>(r, max_registrations);
      for (std::size_t i = 0; i < out.connect.registration_count; ++i)
        out.connect.registrations[i] = r.take<Registration>();
      if (!out.connect.target.address || (out.connect.domain != AF_INET && out.connect.domain != AF_INET6)) r.fail();
      break;
    case Ask::epoll:
      out.epoll.cookie = r.take<std::uint64_t>();
      out.epoll.operation = r.take<std::int32_t>();
      out.epoll.registration = r.take<Registration>();
      break;
    case Ask::closing:
      out.closing.cookie = r.take<std::uint64_t>();
      out.closing.fd = r.take<std::int32_t>();
      break;
    case Ask::watch:
      out.watch.count = take_count<std::uint16_t>(r, max_watched);
      for (std::size_t i = 0; i < out.watch.count; ++i) out.watch.cookies[i] = r.take<std::uint64_t>();
      break;
    case Ask::name:
      out.name.family = r.take<std::int32_t>();
      out.name.name = take_text(r);
      break;
    case Ask::learn:
      out.learn.name = take_text(r);
      out.learn.count = take_count<std::uint8_t>(r, max_learnt);
      for (std::size_t i = 0; i < out.learn.count; ++i) out.learn.addresses[i] = take_address(r);
      break;
    case Ask::reverse: out.reverse = take_address(r); break;
    case Ask::datagram:
      out.datagram.target = take_endpoint(r);
      out.datagram.cookie = r.take<std::uint64_t>();
      out.datagram.domain = r.take<std::int32_t>();
      out.datagram.connects = take_bool(r);
      if (!out.datagram.target.address || (out.datagram.domain != AF_INET && out.datagram.domain != AF_INET6)) r.fail();
      break;
    case Ask::query: out.query = take_query(r); break;
    case Ask::supervise: out.supervise_flavour = r.take<std::uint32_t>(); break;
    case Ask::hold: out.hold.listener = r.take<std::uint64_t>(); break;
    case Ask::claim:
      out.claim.listener = r.take<std::uint64_t>();
      out.claim.bell = take_endpoint(r);
      break;
    case Ask::status: {
      const auto format = r.take<std::uint8_t>();
      if (format >= status_format_count) r.fail();
      out.status.format = static_cast<StatusFormat>(format);
      out.status.pid = r.take<std::int32_t>();
      break;
    }
    case Ask::no_net:
      out.no_net.step = r.take<std::uint8_t>();
      out.no_net.error = r.take<std::int32_t>();
      break;
    case Ask::look: out.look.address = r.take<std::uint64_t>(); break;
  }
  return r.ok() && r.left() == 0;
}

std::size_t encode(std::span<std::byte> out, const Reply& reply) noexcept {
  ByteWriter w(out);
  w.put(magic);
  w.put(version);
  w.put(reply.kind);
  w.put(reply.number);
  w.put(reply.page);
  switch (reply.kind) {
    case Answer::page: w.put(reply.token); break;
    case Answer::dial:
    case Answer::instead: put(w, reply.endpoint); break;
    case Answer::accepted:
      put(w, reply.endpoint);
      put(w, reply.peer);
      break;
    case Answer::message: put_bytes(w, reply.message); break;
    case Answer::synthetic:
      put(w, reply.v4);
      put(w, reply.v6);
      w.put(reply.candidate_count);
      for (std::size_t i = 0; i < reply.candidate_count && i < max_candidates; ++i) put_text(w, reply.candidates[i]);
      break;
    case Answer::name: put_text(w, reply.name); break;
    default: break;
  }
  return w.ok() ? w.size() : 0;
}

bool decode(std::span<const std::byte> in, Reply& out) noexcept {
  ByteReader r(in);
  if (r.take<std::uint32_t>() != magic || r.take<std::uint16_t>() != version) return false;
  const auto kind = r.take<std::uint8_t>();
  if (kind >= answer_count) return false;
  out.kind = static_cast<Answer>(kind);
  out.number = r.take<std::int32_t>();
  out.page = r.take<std::uint64_t>();
  switch (out.kind) {
    case Answer::page: out.token = r.take<Token>(); break;
    case Answer::dial:
    case Answer::instead: out.endpoint = take_endpoint(r); break;
    case Answer::accepted:
      out.endpoint = take_endpoint(r);
      out.peer = take_endpoint(r);
      break;
    case Answer::message: out.message = take_query(r); break;
    case Answer::synthetic:
      out.v4 = take_address(r);
      out.v6 = take_address(r);
      out.candidate_count = take_count<std::uint8_t>(r, max_candidates);
      for (std::size_t i = 0; i < out.candidate_count; ++i) out.candidates[i] = take_text(r);
      break;
    case Answer::name: out.name = take_text(r); break;
    default: break;
  }
  return r.ok() && r.left() == 0;
}

bool same(const Token& a, const Token& b) noexcept {
  std::uint8_t difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = static_cast<std::uint8_t>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

bool parse_control(std::string_view text, Control& out) noexcept {
  const auto colon = text.find(':');
  if (colon == text.npos || colon == 0 || colon > max_control_name) return false;
  constexpr std::string_view mark = ":in";
  const std::string_view rest{text.data() + colon + 1, text.size() - colon - 1};
  const std::size_t digits = 2 * out.token.size();
  if (rest.size() != digits &&
      (rest.size() != digits + mark.size() || std::memcmp(rest.data() + digits, mark.data(), mark.size()) != 0))
    return false;
  for (std::size_t i = 0; i < colon; ++i)
    if (text[i] <= ' ' || text[i] > '~') return false;
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  for (std::size_t i = 0; i < out.token.size(); ++i) {
    const int high = digit(text[colon + 1 + 2 * i]), low = digit(text[colon + 2 + 2 * i]);
    if (high < 0 || low < 0) return false;
    out.token[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  std::memcpy(out.name, text.data(), colon);
  out.name_size = static_cast<std::uint8_t>(colon);
  out.inbound = rest.size() != digits;
  return true;
}

}  // namespace towpath::wire
