// How it works. A *request* is one caller's lookup: a list of candidate names, tried one after the other, and a
// deadline. A *question* is one (name, family) that DNS is asked about; requests wait for questions, several
// for the same one. Answers from c-ares are only noted down; everything that follows from them, the
// callbacks above all, happens in wake(), run by one timer: so no caller's code ever runs inside c-ares,
// and channels are only dropped where c-ares is not on the stack.
#include "resolver/lookup.h"

#include <algorithm>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "resolver/address_cache.h"
#include "resolver/dns_channel.h"
#include "resolver/file_text.h"
#include "resolver/hosts_file.h"

#include <sys/utsname.h>

namespace towpath {

namespace {
constexpr std::size_t most_requests = 8192;
constexpr std::size_t longest_name = 253;
// Broken networks swallow AAAA questions, so an A answer does not wait for long. The reverse is not seen, and a
// machine without IPv6 could not use half of such an answer.
constexpr std::uint64_t v6_grace_ms = 300;

// What can be put into a question as it stands; c-ares gives the backslash a meaning of its own.
bool is_askable(std::string_view name) noexcept {
  return !name.empty() && name.size() <= longest_name &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f' && c != '\\'; });
}

bool is_localhost(std::string_view name) noexcept { return name == "localhost" || name.ends_with(".localhost"); }

void make_lower(std::string& text) noexcept {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
}

bool is_wanted(const IpAddress& address, Lookup::Family family) noexcept {
  switch (family) {
    case Lookup::Family::any: return true;
    case Lookup::Family::v4: return address.is_v4();
    case Lookup::Family::v6: return address.is_v6();
  }
  return false;
}

// Those of the wanted family, IPv4 first, each once.
std::vector<IpAddress> selected(const std::vector<IpAddress>& addresses, Lookup::Family family) {
  std::vector<IpAddress> out;
  for (const IpAddress& address : addresses)
    if (is_wanted(address, family) && std::find(out.begin(), out.end(), address) == out.end()) out.push_back(address);
  std::stable_partition(out.begin(), out.end(), [](const IpAddress& a) { return a.is_v4(); });
  return out;
}

// Of two failures the one that says less about the name.
LookupError worse(LookupError a, LookupError b) noexcept {
  const auto rank = [](LookupError error) {
    switch (error) {
      case LookupError::none: return 0;
      case LookupError::not_found: return 1;
      case LookupError::bad_name: return 2;
      case LookupError::refused: return 3;
      case LookupError::no_answer: return 4;
      case LookupError::busy: return 5;
    }
    return 5;
  };
  return rank(a) < rank(b) ? b : a;
}

std::string own_host_name() {
  utsname names{};
  return ::uname(&names) == -1 ? std::string() : std::string(names.nodename);
}
}  // namespace

class Lookup::Work {
 public:
  Work(uv_loop_t* loop, LookupOptions options)
      : loop_(loop), options_(std::move(options)), hosts_(options_.hosts_path) {
    uv_timer_init(loop, &timer_);
    timer_.data = this;
  }

  Ticket start(std::string name, Family family, bool like_host, Callback callback);
  void cancel(Ticket ticket);
  void close();
  void refresh();
  const ResolvConf& conf() const { return conf_; }
  HostsFile& hosts() { return hosts_; }
  std::size_t pending() const { return requests_.size(); }

 private:
  using Id = std::uint64_t;  // of requests and of questions; Ticket is one
  struct Request {
    Callback callback;
    Family family = Family::any;
    std::vector<std::string> candidates;
    std::size_t next = 0;   // candidate
    Id question = 0;        // waiting for; 0 when none
    std::uint64_t due = 0;  // alarm
    std::vector<IpAddress> addresses;
    LookupError error = LookupError::none;
  };
  struct Question {
    std::string key;
    std::vector<Id> waiting;
    unsigned open = 0;  // answers to come
    std::vector<IpAddress> addresses;
    LookupError error = LookupError::none;
    std::uint32_t ttl_seconds = AddressCache::longest_seconds;
    std::uint64_t due = 0;  // grace for AAAA; 0 = not set
    bool finished = false;  // is in finished_
  };

  bool answer_without_dns(Request& request, const std::string& name);
  void advance(Id id);
  void join(Id id, Request& request, const std::string& name);
  void note_answer(Id id, DnsChannel::Answer answer);
  void finish_question(Id id, Question& question);
  void conclude_question(Id id);
  void finish_request(Id id, Request& request, LookupError error);
  void deadline(Id id, Request& request);

  void wake();
  void ring_alarms();
  bool deliver();
  void rearm();
  std::uint64_t now() const noexcept { return uv_now(loop_); }

  uv_loop_t* loop_;
  LookupOptions options_;
  HostsFile hosts_;
  ResolvConf conf_;
  std::optional<FileStamp> conf_stamp_;
  DnsChannel::Pointer channel_;
  std::vector<DnsChannel::Pointer> retired_;  // until their questions are over
  AddressCache cache_;
  uv_timer_t timer_{};
  Id last_id_ = 0;
  std::unordered_map<Id, Request> requests_;
  std::unordered_map<Id, Question> questions_;
  std::unordered_map<std::string, Id> by_key_;  // questions that can be joined
  std::set<std::pair<std::uint64_t, Id>> alarms_;
  std::vector<Id> finished_;  // questions
  std::vector<Id> ready_;     // requests
  bool closed_ = false;
};

Lookup::Ticket Lookup::Work::start(std::string name, Family family, bool like_host, Callback callback) {
  uv_update_time(loop_);
  refresh();
  const Id id = ++last_id_;
  const bool busy = requests_.size() >= most_requests;
  Request& request = requests_[id];
  request.callback = std::move(callback);
  request.family = family;
  request.due = now() + static_cast<std::uint64_t>(std::max<std::int64_t>(options_.total.count(), 1));
  alarms_.emplace(request.due, id);
  make_lower(name);
  if (busy) {
    finish_request(id, request, LookupError::busy);
  } else if (!answer_without_dns(request, name)) {
    const bool absolute = name.ends_with('.');
    if (like_host) request.candidates = expand(name, conf_);
    if (!like_host) request.candidates = {absolute ? name.substr(0, name.size() - 1) : name};
    advance(id);
  } else {
    finish_request(id, request, request.addresses.empty() ? LookupError::not_found : LookupError::none);
  }
  rearm();
  return id;
}

// A number, a name in the hosts file, localhost: the answer is in the request.
bool Lookup::Work::answer_without_dns(Request& request, const std::string& name) {
  std::vector<IpAddress> found;
  if (const IpAddress number = IpAddress::parse(name)) {
    found.push_back(number);
  } else {
    found = selected(hosts_.lookup(name), request.family);
    const std::string_view bare = std::string_view(name).substr(0, name.size() - (name.ends_with('.') ? 1 : 0));
    if (found.empty() && is_localhost(bare)) found = {IpAddress::parse("127.0.0.1"), IpAddress::parse("::1")};
    if (found.empty()) return false;
  }
  request.addresses = selected(found, request.family);
  return true;
}

// To the request's next candidate; the request is either waiting or finished afterwards.
void Lookup::Work::advance(Id id) {
  Request& request = requests_.at(id);
  while (request.next < request.candidates.size()) {
    const std::string& name = request.candidates[request.next++];
    if (!is_askable(name)) {
      request.error = worse(request.error, LookupError::bad_name);
      continue;
    }
    join(id, request, name);
    return;
  }
  finish_request(id, request, request.error == LookupError::none ? LookupError::bad_name : request.error);
}

void Lookup::Work::join(Id id, Request& request, const std::string& name) {
  std::string key = name;
  key += '\0';
  key += static_cast<char>('0' + static_cast<int>(request.family));
  if (const auto* cached = cache_.find(key, now())) {
    request.addresses = *cached;
    finish_request(id, request, LookupError::none);
    return;
  }
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    questions_.at(found->second).waiting.push_back(id);
    request.question = found->second;
    return;
  }
  if (!channel_) {
    finish_request(id, request, LookupError::refused);
    return;
  }
  const Id asked = request.question = ++last_id_;
  const bool v4 = request.family != Family::v6, v6 = request.family != Family::v4;
  by_key_.emplace(key, asked);
  Question& question = questions_[asked];
  question.key = std::move(key);
  question.waiting.push_back(id);
  question.open = unsigned{v4} + unsigned{v6};
  const auto note = [this, asked](DnsChannel::Answer answer) { note_answer(asked, std::move(answer)); };
  if (v4) channel_->ask(name, IpAddress::Family::v4, note);
  if (v6) channel_->ask(name, IpAddress::Family::v6, note);
}

void Lookup::Work::note_answer(Id id, DnsChannel::Answer answer) {
  const auto found = questions_.find(id);
  if (found == questions_.end()) return;  // came after the grace period
  Question& question = found->second;
  --question.open;
  question.error = worse(question.error, answer.error);
  if (answer.error == LookupError::none) {
    question.ttl_seconds = std::min(question.ttl_seconds, answer.ttl_seconds);
    question.addresses.insert(question.addresses.end(), answer.addresses.begin(), answer.addresses.end());
  }
  if (question.open == 0) {
    finish_question(id, question);
  } else if (!question.addresses.empty() && question.addresses.front().is_v4()) {
    question.due = now() + v6_grace_ms;
    alarms_.emplace(question.due, id);
  }
  rearm();
}

void Lookup::Work::finish_question(Id id, Question& question) {
  if (!std::exchange(question.finished, true)) finished_.push_back(id);
}

// Hands the question's answer to those who wait for it.
void Lookup::Work::conclude_question(Id id) {
  const auto node = questions_.extract(id);
  if (node.empty()) return;
  Question& question = node.mapped();
  if (question.due != 0) alarms_.erase({question.due, id});
  if (const auto found = by_key_.find(question.key); found != by_key_.end() && found->second == id) {
    by_key_.erase(found);
    // Half an answer is good enough for those who wait, not for those who come later.
    const bool whole = question.open == 0 && question.error <= LookupError::not_found;
    question.addresses = selected(question.addresses, Family::any);
    if (whole && !question.addresses.empty())
      cache_.keep(question.key, question.addresses, question.ttl_seconds, now());
  }
  for (const Id waiting : question.waiting) {
    const auto found = requests_.find(waiting);
    if (found == requests_.end() || found->second.question != id) continue;
    Request& request = found->second;
    request.question = 0;
    if (!question.addresses.empty()) {
      request.addresses = selected(question.addresses, request.family);
      finish_request(waiting, request, LookupError::none);
      continue;
    }
    request.error = worse(request.error, question.error);
    // Like libc: the next search domain after an answer, not after silence.
    if (question.error == LookupError::no_answer) finish_request(waiting, request, LookupError::no_answer);
    else advance(waiting);
  }
}

void Lookup::Work::finish_request(Id id, Request& request, LookupError error) {
  request.error = error;
  request.question = 0;
  if (request.due != 0) alarms_.erase({std::exchange(request.due, 0), id});
  ready_.push_back(id);
}

void Lookup::Work::deadline(Id id, Request& request) {
  const auto question = questions_.find(request.question);
  if (question != questions_.end()) request.addresses = selected(question->second.addresses, request.family);
  finish_request(id, request, request.addresses.empty() ? LookupError::no_answer : LookupError::none);
}

void Lookup::Work::cancel(Ticket ticket) {
  const auto node = requests_.extract(ticket);  // destroyed last: the callback's own state may call us
  if (node.empty()) return;
  if (node.mapped().due != 0) alarms_.erase({node.mapped().due, ticket});
  rearm();
}

void Lookup::Work::ring_alarms() {
  while (!alarms_.empty() && alarms_.begin()->first <= now()) {
    const Id id = alarms_.begin()->second;
    alarms_.erase(alarms_.begin());
    if (const auto request = requests_.find(id); request != requests_.end()) {
      deadline(id, request->second);
    } else if (const auto question = questions_.find(id); question != questions_.end()) {
      finish_question(id, question->second);
    }
  }
}

// False when a callback closed us.
bool Lookup::Work::deliver() {
  for (const Id id : std::exchange(ready_, {})) {
    auto node = requests_.extract(id);
    if (node.empty()) continue;  // cancelled
    Request& request = node.mapped();
    request.callback(std::move(request.addresses), request.error);
    if (closed_) return false;
  }
  return true;
}

void Lookup::Work::wake() {
  ring_alarms();
  for (const Id id : std::exchange(finished_, {})) conclude_question(id);
  std::erase_if(retired_, [](const DnsChannel::Pointer& channel) { return channel->in_flight() == 0; });
  if (deliver()) rearm();
}

void Lookup::Work::rearm() {
  if (closed_) return;
  if (!finished_.empty() || !ready_.empty()) {
    uv_timer_start(
        &timer_, [](uv_timer_t* handle) { static_cast<Work*>(handle->data)->wake(); }, 0, 0);
    return;
  }
  if (alarms_.empty()) {
    uv_timer_stop(&timer_);
    return;
  }
  const std::uint64_t due = std::max(alarms_.begin()->first, now());
  uv_timer_start(
      &timer_, [](uv_timer_t* handle) { static_cast<Work*>(handle->data)->wake(); }, due - now(), 0);
}

void Lookup::Work::refresh() {
  if (conf_stamp_ && FileStamp::of(options_.resolv_conf_path) == *conf_stamp_ && channel_) return;
  const FileText file = read_file_text(options_.resolv_conf_path, ResolvConf::most_bytes);
  ResolvConf conf = ResolvConf::parse(file.text, own_host_name());
  for (Endpoint& server : conf.nameservers) server.port = options_.nameserver_port;
  const bool first = !conf_stamp_;
  conf_stamp_ = file.stamp;
  if (!first && conf.nameservers.empty() && !conf_.nameservers.empty() && channel_) return;
  conf_ = std::move(conf);
  auto servers = options_.nameservers.empty() ? conf_.nameservers : options_.nameservers;
  if (servers.empty()) servers.push_back({IpAddress::v4(0x7f000001), options_.nameserver_port});
  // Rounds of 1 and 2 waits for each server: c-ares gives up after three quarters of the total.
  const auto first_wait = options_.total / (4 * static_cast<std::int64_t>(servers.size()));
  if (channel_) retired_.push_back(std::move(channel_));
  channel_ = DnsChannel::open(loop_, servers, first_wait);
  cache_.clear();
  by_key_.clear();
}

void Lookup::Work::close() {
  closed_ = true;
  auto requests = std::exchange(requests_, {});
  questions_.clear();
  channel_.reset();
  retired_.clear();
  uv_close(reinterpret_cast<uv_handle_t*>(&timer_),
           [](uv_handle_t* handle) { delete static_cast<Work*>(handle->data); });
}

Lookup::Lookup(uv_loop_t* loop, LookupOptions options) : work_(new Work(loop, std::move(options))) {}

Lookup::Ticket Lookup::resolve(std::string name, Family family, Callback callback) noexcept {
  return work_ == nullptr ? 0 : work_->start(std::move(name), family, false, std::move(callback));
}

Lookup::Ticket Lookup::resolve_like_host(std::string name, Family family, Callback callback) noexcept {
  return work_ == nullptr ? 0 : work_->start(std::move(name), family, true, std::move(callback));
}

void Lookup::cancel(Ticket ticket) noexcept {
  if (work_ != nullptr) work_->cancel(ticket);
}

void Lookup::close() noexcept {
  if (Work* const work = std::exchange(work_, nullptr)) work->close();
}

const ResolvConf& Lookup::resolv_conf() noexcept {
  static const ResolvConf none;
  if (work_ == nullptr) return none;
  work_->refresh();
  return work_->conf();
}

std::vector<IpAddress> Lookup::in_hosts(std::string_view name) noexcept {
  return work_ == nullptr ? std::vector<IpAddress>() : work_->hosts().lookup(name);
}

std::size_t Lookup::pending() const noexcept { return work_ == nullptr ? 0 : work_->pending(); }

}  // namespace towpath
