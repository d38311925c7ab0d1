// The part of a relay that looks for a tunnel: Upgrade, and CONNECT through the destination.
#include "agent/http_relay.h"

namespace towpath {

const ProxyLogin* HttpRelay::login_of(const ProxyUrl& proxy, ProxyLogin& login) {
  if (!proxy.credentials) return nullptr;
  login = {proxy.credentials->user, proxy.credentials->password};
  return &login;
}

void HttpRelay::begin_tunnel() {
  held_ = requests_.text();
  // A connection that has carried nothing can carry CONNECT.
  if (link_used_) link_.drop();
  ProxyLogin login;
  connect_ = std::make_unique<HttpConnectClient>(TargetView{order_.name, order_.target.address, order_.target.port},
                                                 login_of(*order_.proxy, login));
  state_ = State::tunnelling;
  open_link();
  if (state_ == State::tunnelling) set_deadline();
}

bool HttpRelay::drive_tunnel() {
  if (connect_->want() == Want::send && link_.state() == ProxyLink::State::up) {
    const auto bytes = connect_->to_send();
    std::size_t moved = 0;
    const auto io = link_.write({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, moved);
    if (io == ProxyLink::Io::failed || io == ProxyLink::Io::ended) on_link_end(true);
    else if (io == ProxyLink::Io::moved) connect_->sent(moved);
    if (io == ProxyLink::Io::would_block) return false;
    return true;
  }
  if (connect_->want() == Want::receive) {
    const std::string_view seen = from_link_.view();
    if (seen.empty()) return false;
    const Fed fed = connect_->feed(std::as_bytes(std::span(seen)));
    from_link_.take(fed.consumed);
  }
  if (connect_->want() != Want::finished && connect_->want() != Want::failed) return false;
  tunnel_over(connect_->want() == Want::finished);
  return state_ != State::over;
}

void HttpRelay::tunnel_over(bool granted) {
  deadline_.reset();
  const std::uint16_t status = connect_->status();
  if (granted || status == 403 || status == 405) host_.on_tunnel(*this, granted);
  if (granted) {
    std::string up = std::move(held_);
    up.append(from_program_.view());
    std::string down(to_program_.view());  // what an earlier answer left
    down.append(from_link_.view());
    UniqueFd link;
    std::unique_ptr<TlsChannel> tls;
    link_.release(link, tls);
    if (std::exchange(program_watched_, false)) host_.relay_sockets().drop(order_.program.get(), this);
    host_.on_raw(std::move(order_.program), std::move(link), std::move(tls), {std::move(up), std::move(down)});
    return end(false);
  }
  connect_.reset();
  link_.drop();
  from_link_ = {};
  HttpHead head;
  const std::string text = std::move(held_);
  if (head.parse(HttpKind::request, text) != HttpFlaw::none || edit_.way_of(head) != PlainEdit::Way::upgrade)
    return no_tunnel();
  no_upgrade();
  forward(head);
}

void HttpRelay::no_upgrade() {
  trouble("plain_http_upgrade", "the proxy tunnels no port 80, so Upgrade was taken out of the request",
          "use https or wss, or allow CONNECT to port 80 at the proxy");
}

void HttpRelay::no_tunnel() {
  trouble("plain_http_refused",
          "CONNECT through the destination needs a tunnel to its port 80, which the proxy refuses",
          "allow CONNECT to port 80 at the proxy");
  give_up();
}

}  // namespace towpath
