#include "agent/dns_answers.h"

#include "config/decide.h"
#include "config/host_name.h"

#include <algorithm>

#include <netinet/in.h>

namespace towpath {

namespace {

// Own answers: one question and at most one record.
constexpr std::size_t most_own_bytes = 1024;

bool asks_for_addresses(const dns::Question& question) noexcept {
  return question.type == dns::type::a || question.type == dns::type::aaaa;
}

bool concerns_addresses(const dns::Question& question) noexcept {
  return asks_for_addresses(question) || question.type == dns::type::svcb || question.type == dns::type::https ||
         question.type == dns::type::any;
}

// A service's own labels ("_http._tcp.deb.debian.org") stand in front of the host that a policy speaks of.
std::string_view host_in(std::string_view name) noexcept {
  while (name.starts_with('_') && name.find('.') != name.npos) name.remove_prefix(name.find('.') + 1);
  return name;
}

void say(const dns::Question& question, dns::Rcode code, std::size_t limit, const DnsAnswers::Done& done,
         const IpAddress& address = {}, std::string_view pointer = {}) {
  std::byte out[most_own_bytes];
  dns::Answer answer(out, question, code, limit);
  if (address) answer.address(address, DnsAnswers::ttl_seconds);
  if (!pointer.empty()) answer.pointer(pointer, DnsAnswers::ttl_seconds);
  done({out, answer.finish()});
}

}  // namespace

DnsAnswers::DnsAnswers(uv_loop_t* loop, const std::shared_ptr<const Policy>& policy, ThisHost& host, NameService& names,
                       Lookup& lookup, const Log& log, Learnt learnt)
    : loop_(loop),
      policy_(policy),
      host_(host),
      names_(names),
      lookup_(lookup),
      log_(log),
      learnt_(std::move(learnt)),
      forwarder_(loop) {}

DnsAnswers::~DnsAnswers() {
  for (const auto& [key, candidate] : candidates_) lookup_.cancel(candidate->ticket);
}

std::vector<Endpoint> DnsAnswers::servers() {
  std::vector<Endpoint> out = lookup_.resolv_conf().nameservers;
  if (out.empty()) out.push_back({IpAddress::v4(INADDR_LOOPBACK), 53});
  return out;
}

void DnsAnswers::answer(std::span<const std::byte> query, const Endpoint& asked, std::size_t limit, Done done) {
  ++asked_;
  dns::Question question;
  std::byte refusal[dns::header_size];
  switch (dns::parse(query, question)) {
    case dns::Parsed::ignore: return done({});
    case dns::Parsed::malformed: return done({refusal, dns::refuse(refusal, query, dns::Rcode::malformed)});
    case dns::Parsed::not_implemented: return done({refusal, dns::refuse(refusal, query, dns::Rcode::not_implemented)});
    case dns::Parsed::question: break;
  }
  judge(query, question, asked, limit == 0 ? dns::udp_limit(question) : limit, std::move(done));
}

void DnsAnswers::judge(std::span<const std::byte> query, const dns::Question& question, const Endpoint& asked,
                       std::size_t limit, Done done) {
  if (policy_->dns == DnsMode::local || !policy_->any_proxy())
    return pass_on(query, question, asked, limit, std::move(done));
  const std::string name(question.text());
  if (question.type == dns::type::ptr && question.klass == dns::class_internet) {
    const IpAddress address = dns::reverse_address(name);
    if (address && names_.is_synthetic(address)) {
      const std::string behind = names_.name_of(address);
      return say(question, behind.empty() ? dns::Rcode::no_such_name : dns::Rcode::ok, limit, done, {}, behind);
    }
  }
  const bool is_root = question.wire_size == 5;
  if (is_root) return pass_on(query, question, asked, limit, std::move(done));
  if (!concerns_addresses(question)) {
    if (policy_->other_types == OtherTypes::forward || may_be_seen(question))
      return pass_on(query, question, asked, limit, std::move(done));
    LogLine(log_, Level::debug, "dns_kept")
        .add("name", question.named ? name : "(no text)")
        .add("type", std::int64_t{question.type})
        .add("hint", "proxy.dnsOtherTypes: forward sends such questions to the name servers");
    return say(question, dns::Rcode::ok, limit, done);
  }
  // What no name can look like is no host's name, and nothing that could be judged.
  const std::string normal = question.named ? normalise_name(name) : std::string();
  if (normal.empty()) return say(question, dns::Rcode::no_such_name, limit, done);
  if (!names_.may_tunnel(*policy_, normal)) return pass_on(query, question, asked, limit, std::move(done));
  if (question.klass != dns::class_internet) return say(question, dns::Rcode::refused, limit, done);
  if (!asks_for_addresses(question)) return say(question, dns::Rcode::ok, limit, done);
  if (is_candidate(normal)) return try_candidate(question, limit, std::move(done));
  synthetic(question, limit, done);
}

bool DnsAnswers::may_be_seen(const dns::Question& question) const {
  if (!question.named) return false;
  const std::string_view name = question.text();
  if (const IpAddress address = dns::reverse_address(name)) {
    const Surroundings around{{}, host_.addresses(), {}};
    Policy any_port = *policy_;
    any_port.ports = {};
    if (decide(any_port, {{}, address, 443}, around).kind == RouteKind::direct) return true;
  }
  // A name that is no host's ("0/25.2.0.192.in-addr.arpa") is judged by the domain that it is in.
  std::string_view whole = name;
  while (normalise_name(whole).empty() && whole.find('.') != whole.npos) whole.remove_prefix(whole.find('.') + 1);
  for (const std::string_view part : {whole, host_in(whole)})
    if (const std::string normal = normalise_name(part); !normal.empty() && !names_.may_tunnel(*policy_, normal))
      return true;
  return false;
}

void DnsAnswers::synthetic(const dns::Question& question, std::size_t limit, const Done& done) {
  const std::string name = normalise_name(question.text());
  const NameService::Answer answer = names_.answer(*policy_, name + ".");
  switch (answer.kind) {
    case NameService::Answer::Kind::synthetic:
      // One address, so that nobody connects twice.
      return say(question, dns::Rcode::ok, limit, done, question.type == dns::type::a ? answer.pair.v4 : IpAddress{});
    case NameService::Answer::Kind::full:
      LogLine(log_, Level::error, "names_full").add("name", name).add("hint", "widen syntheticRange");
      return say(question, dns::Rcode::failed, limit, done);
    case NameService::Answer::Kind::no_such_name: return say(question, dns::Rcode::no_such_name, limit, done);
    case NameService::Answer::Kind::own:
      return say(question, dns::Rcode::failed, limit, done);  // changed while we asked
  }
}

void DnsAnswers::pass_on(std::span<const std::byte> query, const dns::Question& question, const Endpoint& asked,
                         std::size_t limit, Done done) {
  std::vector<Endpoint> list = servers();
  // The one that the program chose first; one that the machine does not use is not asked at all.
  if (const auto at = std::find(list.begin(), list.end(), asked); at != list.end())
    std::rotate(list.begin(), at, at + 1);
  const bool whole = limit > question.udp_size;
  const bool taken = forwarder_.forward(query, question, std::move(list), whole,
                                        [this, question, limit, done](std::vector<std::byte> reply) {
                                          if (reply.empty()) return say(question, dns::Rcode::failed, limit, done);
                                          passed(question, reply);
                                          if (reply.size() <= limit) return done(reply);
                                          std::byte out[most_own_bytes];
                                          done({out, dns::truncate(out, question)});
                                        });
  if (!taken) say(question, dns::Rcode::failed, limit, done);
}

void DnsAnswers::passed(const dns::Question& question, std::span<const std::byte> reply) {
  if (!asks_for_addresses(question) || !question.named) return;
  IpAddress found[64];
  const std::size_t count = dns::addresses_of(reply, found);
  if (count != 0 && names_.learn(question.text(), {found, count})) learnt_();
}

bool DnsAnswers::is_candidate(std::string_view name) {
  const auto& search = lookup_.resolv_conf().search;
  return std::any_of(search.begin(), search.end(), [&](const std::string& domain) {
    return !domain.empty() && name.size() > domain.size() + 1 && name.ends_with(domain) &&
           name[name.size() - domain.size() - 1] == '.';
  });
}

void DnsAnswers::try_candidate(const dns::Question& question, std::size_t limit, Done done) {
  if (candidates_.size() >= most_candidates) return say(question, dns::Rcode::failed, limit, done);
  const std::uint64_t key = ++last_key_;
  auto owned = std::make_unique<Candidate>(*this, key, question, limit, std::move(done));
  Candidate& candidate = *owned;
  candidates_.emplace(key, std::move(owned));
  // Either family: a name that has addresses of the other one exists all the same.
  candidate.ticket = lookup_.resolve(std::string(question.text()), Lookup::Family::any,
                                     [this, key](const std::vector<IpAddress>&, LookupError error) {
                                       const auto at = candidates_.find(key);
                                       if (at == candidates_.end()) return;
                                       at->second->ticket = 0;
                                       decided(key, error == LookupError::none);
                                     });
  if (candidate.ticket == 0 ||
      !candidate.timer.open(&candidate, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); }))
    return decided(key, false);
  uv_timer_start(
      candidate.timer.get(),
      [](uv_timer_t* handle) {
        const auto& late = *static_cast<Candidate*>(handle->data);
        late.owner.decided(late.key, false);
      },
      candidate_ms, 0);
}

void DnsAnswers::decided(std::uint64_t key, bool exists) {
  const auto at = candidates_.find(key);
  if (at == candidates_.end()) return;
  const std::unique_ptr<Candidate> candidate = std::move(at->second);
  candidates_.erase(at);
  lookup_.cancel(candidate->ticket);
  if (exists) return synthetic(candidate->question, candidate->limit, candidate->done);
  say(candidate->question, dns::Rcode::no_such_name, candidate->limit, candidate->done);
}

}  // namespace towpath
