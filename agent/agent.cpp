#include "agent/agent.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/holders.h"
#include "agent/spare_descriptors.h"
#include "base/error.h"

namespace towpath {

namespace {

constexpr std::size_t most_conversations = 16384;
constexpr std::size_t most_attempts = 32768;

std::uint64_t cookie_of(int fd) noexcept {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

bool is_inet_socket(int fd, int domain, int type) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &size) != 0 || value != domain) return false;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 && value == type;
}

// A socket that is bound and does not listen: a connect to it is refused, and nobody else can take the port.
Endpoint reserve_closed_port(int domain, UniqueFd& socket_out) {
  const Endpoint loopback{domain == AF_INET ? IpAddress::v4(INADDR_LOOPBACK) : IpAddress::parse("::1"), 0};
  sockaddr_storage address;
  socklen_t size = loopback.to(address, domain);
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return {};
  size = sizeof address;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  socket_out = std::move(fd);
  return Endpoint::from(reinterpret_cast<sockaddr*>(&address), size);
}

}  // namespace

std::unique_ptr<Agent> Agent::start(uv_loop_t* loop, std::shared_ptr<const Policy> policy, Kept& kept, const Log& log,
                                    std::string& why) {
  auto page = PageWriter::adopt(kept.page.get(), why);
  if (!page) return nullptr;
  const SyntheticNames::Range range{policy->synthetic_range.address, policy->synthetic_range.bits};
  UniqueFd names_fd(fcntl(kept.names.get(), F_DUPFD_CLOEXEC, 3));
  auto names = SyntheticNames::adopt(std::move(names_fd), range, why);
  if (!names) return nullptr;
  std::unique_ptr<Agent> agent(new Agent(loop, std::move(policy), kept, log, std::move(*page), std::move(*names)));
  if (!agent->open(why)) return nullptr;
  return agent;
}

Agent::Agent(uv_loop_t* loop, std::shared_ptr<const Policy> policy, Kept& kept, const Log& log, PageWriter page,
             SyntheticNames names)
    : loop_(loop),
      policy_(std::move(policy)),
      kept_(kept),
      log_(log),
      page_(std::move(page)),
      sockets_(loop),
      lookup_(loop),
      host_(loop, [this] { page_.raise_epoch(); }),
      names_(std::move(names), lookup_, host_),
      dns_(loop, policy_, host_, names_, lookup_, page_, log_),
      datagrams_(policy_, host_, names_, dns_, page_, log_),
      door_(loop),
      inbound_(*this, policy_->reverse, page_.inbound(), kept.clients.get(), log_),
      desk_(inbound_),
      proxies_(log_),
      plain_(*this, log_),
      metrics_(loop, sockets_, kept.metrics.get(), [this] { return metrics_text(); }),
      supervisor_({loop, sockets_, page_, names_, datagrams_, log_, *this, inbound_, quiet_door_},
                  Shelf(kept.listeners_in.get(), kept.listeners_out.get()), kept.token) {
  const auto any = names_.synthetic_prefix_v6();
  page_.set_synthetic(policy_->synthetic_range.address, policy_->synthetic_range.bits, any);
  publish_policy();
  keep_spare_descriptors();
  bell_.hang(Shelf(kept_.shelf_in.get(), kept_.shelf_out.get()));
  closed_v4_port_ = reserve_closed_port(AF_INET, closed_v4_);
  closed_v6_port_ = reserve_closed_port(AF_INET6, closed_v6_);
}

bool Agent::open(std::string& why) {
  why = "libuv cannot watch the agent's sockets";
  if (!sockets_.ok() || !listener_.open(loop_, kept_.control.get(), [this] { accept(); })) return false;
  sweeper_.open(this, [&](uv_check_t* handle) { return uv_check_init(loop_, handle); });
  uv_check_start(sweeper_.get(), [](uv_check_t* handle) { static_cast<Agent*>(handle->data)->sweep(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(sweeper_.get()));
  pulse_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
  uv_timer_start(
      pulse_.get(), [](uv_timer_t* handle) { static_cast<Agent*>(handle->data)->page_.beat(); }, 0, page_beat_ms);
  uv_unref(reinterpret_cast<uv_handle_t*>(pulse_.get()));
  supervisor_.adopt_kept();
  watch_log();
  return true;
}

Agent::~Agent() {
  log_.on_suppressed({});
  // Attempts fail and conversations end while everything they use is still there.
  for (auto& [cookie, attempt] : std::exchange(attempts_, {})) attempt->cancel();
  for (auto& [key, talk] : std::exchange(conversations_, {})) talk->end();
}

bool Agent::any_asker_alive() {
  std::erase_if(askers_, [](pid_t pid) { return kill(pid, 0) != 0 && errno == ESRCH; });
  return !askers_.empty() || !relays_.empty() || plain_.any_relay() || supervisor_.busy() || !inbound_.idle();
}

void Agent::sweep() {
  ended_conversations_.clear();
  ended_attempts_.clear();
  ended_relays_.clear();
  plain_.sweep();
  supervisor_.sweep_ended();
  inbound_.sweep();
  metrics_.sweep();
}

void Agent::accept() {
  // Bounded: a burst of asks must not keep the loop from the proxies' answers.
  for (int i = 0; i < 64; ++i) {
    UniqueFd fd = listener_.next(nullptr);
    // The next turn of the listener finds the room that a silent one leaves.
    if (!fd) return listener_.full() && !silent_.drop_oldest() ? on_full() : void();
    if (conversations_.size() >= most_conversations && !silent_.drop_oldest()) continue;
    auto talk = std::make_unique<Conversation>(std::move(fd), *this);
    Conversation* const at = talk.get();
    conversations_.emplace(at, std::move(talk));
    at->start();
  }
}

void Agent::on_over(Conversation& talk) {
  desk_.on_over(talk);
  silent_.remove(talk);
  std::erase_if(queries_, [&](const auto& each) { return each.second == &talk; });
  watchers_.remove_if([&](const Watcher& watcher) { return watcher.talk == &talk; });
  const auto at = conversations_.find(&talk);
  if (at == conversations_.end()) return;
  ended_conversations_.push_back(std::move(at->second));
  conversations_.erase(at);
}

Attempt* Agent::find(std::uint64_t cookie) {
  const auto at = attempts_.find(cookie);
  return at == attempts_.end() ? nullptr : at->second.get();
}

void Agent::on_ask(Conversation& talk, const wire::Message& ask, std::vector<UniqueFd> descriptors) {
  silent_.remove(talk);
  if (ask.kind == wire::Ask::status) return on_status(talk, ask.status);  // a visitor, not of the tree
  if (askers_.size() >= most_conversations) (void)any_asker_alive();
  askers_.insert(talk.asker().pid);
  switch (ask.kind) {
    case wire::Ask::hello: {
      wire::Reply reply;
      reply.kind = wire::Answer::page;
      reply.token = kept_.token;
      return talk.answer(reply, page_.reader());
    }
    case wire::Ask::connect: return on_connect(talk, ask.connect, std::move(descriptors));
    case wire::Ask::epoll: return on_epoll(talk, ask.epoll, std::move(descriptors));
    case wire::Ask::closing: return on_closing(talk, ask.closing);
    case wire::Ask::watch: return on_watch(talk, ask.watch);
    case wire::Ask::name: return on_name(talk, ask.name);
    case wire::Ask::learn:
      if (names_.learn(ask.learn.name, {ask.learn.addresses.data(), ask.learn.count})) page_.raise_epoch();
      return talk.answer(wire::Answer::done);
    case wire::Ask::reverse: return on_reverse(talk, ask.reverse);
    case wire::Ask::datagram: return on_datagram(talk, ask.datagram, std::move(descriptors));
    case wire::Ask::query: return on_query(talk, ask.query);
    case wire::Ask::supervise: return on_supervise(talk, ask.supervise_flavour, std::move(descriptors));
    case wire::Ask::clients:
    case wire::Ask::sweep:
    case wire::Ask::hold:
    case wire::Ask::claim: return desk_.on_ask(talk, ask, std::move(descriptors));
    case wire::Ask::look: return talk.answer(wire::Answer::done, look_into(talk.asker().pid, ask.look, kept_.token));
    case wire::Ask::no_net: note_no_net(talk.asker(), ask.no_net); return talk.end();
    case wire::Ask::dialled:
    case wire::Ask::took:
    case wire::Ask::status:
    case wire::Ask::detach: return talk.end();
  }
}

bool Agent::may_ask(const Asker& asker, const wire::Message& ask) const {
  if (wire::same(ask.token, kept_.token)) return true;
  // Processes of our own user could trace us as well: those that come without a token are told it.
  if (ask.kind == wire::Ask::status) return asker.uid == geteuid() || asker.uid == 0;
  return kept_.standalone && ask.kind == wire::Ask::hello && asker.uid == geteuid();
}

Ruling Agent::judge_connect(const wire::ConnectAsk& ask, UniqueFd& socket, const Asker& asker) {
  if (dns_.leads(ask.target) && !names_.is_synthetic(ask.target.address)) return lead_to_dns(ask, socket.get());
  const bool synthetic = names_.is_synthetic(ask.target.address);
  Attempt::Order order;
  order.name = names_.name_of(ask.target.address);
  order.policy = policy_;
  order.asker = asker;
  const std::string target = target_text(order.name, ask.target);
  if (synthetic && order.name.empty()) return refuse(asker, target, nullptr, {Err::no_such_synthetic, Stage::lookup});
  Surroundings around{proxy_endpoints_, {}, host_.name()};
  if (!synthetic) around.own_addresses = host_.addresses();
  Decision decision =
      decide(*policy_, {order.name, synthetic ? IpAddress{} : ask.target.address, ask.target.port}, around);
  if (decision.kind == RouteKind::refused)
    return refuse(asker, target, nullptr, {Err::bad_configuration, Stage::config}, decision.rule);
  if (decision.kind == RouteKind::direct && !synthetic) {
    tell_direct(asker, target, decision.rule);
    page_.forget(ask.cookie);  // it was a tunnel, or was to be one
    return {Ruling::Kind::direct, 0, {}, nullptr};
  }
  order.proxies = decision.proxies;
  order.proxy = decision.proxies.empty() ? nullptr : &decision.proxies[0];
  if (attempts_.size() >= most_attempts || !page_.begin(ask.cookie, ask.target))
    return refuse(asker, target, order.proxy, {Err::agent_busy, Stage::ask}, decision.rule);
  ++(order.proxy != nullptr ? stats_.tunnel : stats_.direct);
  order.rule = std::move(decision.rule);
  order.socket = std::move(socket);
  return {Ruling::Kind::attempt, 0, {}, &begin(ask, std::move(order))};
}

Attempt& Agent::native_connect(const wire::ConnectAsk& ask, UniqueFd socket, const Asker& asker) {
  Attempt::Order order;
  order.native = true;
  order.policy = policy_;
  order.asker = asker;
  order.socket = std::move(socket);
  return begin(ask, std::move(order));
}

Attempt& Agent::begin(const wire::ConnectAsk& ask, Attempt::Order order) {
  order.ask = ask;
  auto owned = std::make_unique<Attempt>(*this, std::move(order));
  Attempt& attempt = *owned;
  attempts_.emplace(ask.cookie, std::move(owned));
  return attempt;
}

void Agent::on_connect(Conversation& talk, const wire::ConnectAsk& ask, std::vector<UniqueFd> descriptors) {
  if (descriptors.size() != std::size_t{1} + ask.registration_count || ask.cookie == 0 ||
      cookie_of(descriptors[0].get()) != ask.cookie || !is_inet_socket(descriptors[0].get(), ask.domain, SOCK_STREAM))
    return talk.answer(wire::Answer::refuse, EINVAL);
  if (find(ask.cookie) != nullptr) return talk.answer(wire::Answer::refuse, EALREADY);
  const Ruling ruling = judge_connect(ask, descriptors[0], talk.asker());
  switch (ruling.kind) {
    case Ruling::Kind::direct: return talk.answer(wire::Answer::direct);
    case Ruling::Kind::refused: return talk.answer(wire::Answer::refuse, ruling.error);
    case Ruling::Kind::instead: {
      wire::Reply reply;
      reply.kind = wire::Answer::instead;
      reply.endpoint = ruling.endpoint;
      return talk.answer(reply);
    }
    case Ruling::Kind::attempt: break;
  }
  Attempt& attempt = *ruling.attempt;
  for (std::size_t i = 0; i < ask.registration_count; ++i)
    attempt.registrations().withdraw(talk.asker().pid, attempt.order().socket.get(), ask.registrations[i],
                                     std::move(descriptors[1 + i]));
  if (ask.blocking) {
    talk.set_answerer(&attempt);
    return attempt.start(&talk);
  }
  talk.answer(wire::Answer::pending);
  attempt.start(nullptr);
}

void Agent::on_supervise(Conversation& talk, std::uint32_t flavour, std::vector<UniqueFd> descriptors) {
  std::vector<UniqueFd> inherited;
  for (std::size_t i = 1; i < descriptors.size(); ++i) inherited.push_back(std::move(descriptors[i]));
  const bool taken =
      !descriptors.empty() && supervisor_.adopt(std::move(descriptors[0]), flavour, std::move(inherited));
  talk.answer(wire::Answer::done, taken ? 0 : EINVAL);
}

void Agent::on_verdict(Attempt& attempt, SocketState state, const Error& error) {
  const Attempt::Order& order = attempt.order();
  const std::uint64_t cookie = order.ask.cookie;
  supervisor_.on_verdict(attempt, state);
  if (!order.native) tell(attempt, state, error);
  const auto at = attempts_.find(cookie);
  if (at != attempts_.end()) {
    ended_attempts_.push_back(std::move(at->second));
    attempts_.erase(at);
  }
  tell_watchers(cookie);
}

void Agent::on_epoll(Conversation& talk, const wire::EpollAsk& ask, std::vector<UniqueFd> descriptors) {
  Attempt* attempt = find(ask.cookie);
  if (attempt == nullptr || descriptors.size() != 1) return talk.answer(wire::Answer::native);
  talk.answer(wire::Answer::done, attempt->registrations().apply(talk.asker().pid, ask.operation, ask.registration,
                                                                 std::move(descriptors[0])));
}

void Agent::on_closing(Conversation& talk, const wire::ClosingAsk& ask) {
  const pid_t pid = talk.asker().pid;
  if (ask.fd < 0) {  // taken off its peer
    if (Attempt* attempt = find(ask.cookie); attempt != nullptr && attempt->quiet()) attempt->abandon();
    page_.forget(ask.cookie);
  }
  if (Attempt* attempt = find(ask.cookie)) {
    attempt->registrations().forget(pid, ask.fd);
    // This process is where orphans of the tree end up.
    if (!held_elsewhere({pid, attempt->order().asker.pid, getpid()}, attempt->order().socket.get(), pid, ask.fd))
      attempt->cancel();
  }
  talk.answer(wire::Answer::done);
}

void Agent::on_watch(Conversation& talk, const wire::WatchAsk& ask) {
  Watcher watcher{&talk, {ask.cookies.begin(), ask.cookies.begin() + ask.count}};
  for (const std::uint64_t cookie : watcher.cookies)
    if (find(cookie) == nullptr) return talk.answer(wire::Answer::done);
  if (watcher.cookies.empty()) return talk.answer(wire::Answer::done);
  talk.set_answerer(this);
  watchers_.push_back(std::move(watcher));
}

void Agent::tell_watchers(std::uint64_t cookie) {
  std::vector<Conversation*> concerned;
  for (const Watcher& watcher : watchers_)
    if (std::find(watcher.cookies.begin(), watcher.cookies.end(), cookie) != watcher.cookies.end())
      concerned.push_back(watcher.talk);
  for (Conversation* talk : concerned) talk->answer(wire::Answer::done);
}

void Agent::on_name(Conversation& talk, const wire::NameAsk& ask) {
  const NameService::Answer answer = names_.answer(*policy_, ask.name);
  wire::Reply reply;
  switch (answer.kind) {
    case NameService::Answer::Kind::own: return talk.answer(wire::Answer::own);
    case NameService::Answer::Kind::no_such_name: return talk.answer(wire::Answer::refuse, ENOENT);
    case NameService::Answer::Kind::full:
      LogLine(log_, Level::error, "names_full").add("name", ask.name).add("hint", "widen syntheticRange");
      return talk.answer(wire::Answer::refuse, EAGAIN);
    case NameService::Answer::Kind::synthetic: break;
  }
  reply.kind = wire::Answer::synthetic;
  reply.v4 = answer.pair.v4;
  reply.v6 = answer.pair.v6;
  for (const std::string& candidate : answer.candidates) reply.candidates[reply.candidate_count++] = candidate;
  talk.answer(reply);
}

void Agent::on_reverse(Conversation& talk, const IpAddress& address) {
  const std::string name = names_.is_synthetic(address) ? names_.name_of(address) : std::string();
  if (name.empty()) return talk.answer(wire::Answer::own);
  wire::Reply reply;
  reply.kind = wire::Answer::name;
  reply.name = name;
  talk.answer(reply);
}

void Agent::on_datagram(Conversation& talk, const wire::DatagramAsk& ask, std::vector<UniqueFd> descriptors) {
  if (descriptors.size() != 1 || ask.cookie == 0 || cookie_of(descriptors[0].get()) != ask.cookie ||
      !is_inet_socket(descriptors[0].get(), ask.domain, SOCK_DGRAM))
    return talk.answer(wire::Answer::refuse, EINVAL);
  talk.answer(datagrams_.judge(ask, descriptors[0].get()));
}

// A stream to a name server goes to our name service. (A synthetic address stands for a name server behind the proxy: a
// tunnel like any other.)
Ruling Agent::lead_to_dns(const wire::ConnectAsk& ask, int fd) {
  const Endpoint door = bound_to_device(fd) ? Endpoint{} : dns_.stream_door(ask.target, ask.domain, ask.v6_only);
  if (!door.address || !page_.note(ask.cookie, SocketState::dns, ask.target))
    return {Ruling::Kind::refused, ENETUNREACH, {}, nullptr};
  return {Ruling::Kind::instead, 0, door, nullptr};
}

// For resolvers inside libc, whose own sockets pass no hook.
void Agent::on_query(Conversation& talk, std::span<const std::byte> query) {
  const std::uint64_t key = ++last_query_;
  queries_.emplace(key, &talk);
  talk.set_answerer(this);
  dns_.answers().answer(query, {}, wire::max_query, [this, key](std::span<const std::byte> message) {
    const auto at = queries_.find(key);
    if (at == queries_.end()) return;
    Conversation& waiting = *at->second;
    queries_.erase(at);
    wire::Reply reply;
    reply.kind = message.empty() ? wire::Answer::refuse : wire::Answer::message;
    reply.number = ETIMEDOUT;
    reply.message = message;
    waiting.answer(reply);
  });
}

void Agent::on_proxy_found(const Policy& policy, const std::vector<Endpoint>& endpoints) {
  if (&policy != policy_.get()) return;  // of a configuration that is gone: perhaps no proxy any more
  for (const Endpoint& each : endpoints)
    if (std::find(proxy_endpoints_.begin(), proxy_endpoints_.end(), each) == proxy_endpoints_.end() &&
        proxy_endpoints_.size() < 256)
      proxy_endpoints_.push_back(each);
}

std::shared_ptr<TlsClient> Agent::tls(const std::shared_ptr<const Policy>& policy, std::string& why) {
  return tls_.of(policy, why);
}

void Agent::on_relay(UniqueFd program, UniqueFd proxy, std::unique_ptr<TlsChannel> tls, Relay::First first) {
  auto relay =
      std::make_unique<Relay>(sockets_, std::move(program), std::move(proxy), std::move(tls), [this](Relay& ended) {
        const auto at = relays_.find(&ended);
        if (at == relays_.end()) return;
        ended_relays_.push_back(std::move(at->second));
        relays_.erase(at);
      });
  Relay* const at = relay.get();
  relays_.emplace(at, std::move(relay));
  at->start(first);
}

Endpoint Agent::closed_port(int domain, bool v6_only) {
  return domain == AF_INET || !v6_only ? closed_v4_port_ : closed_v6_port_;
}

}  // namespace towpath
