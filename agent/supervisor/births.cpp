#include "agent/supervisor/births.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <unordered_set>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/holders.h"
#include "agent/supervisor/tasks.h"

namespace towpath {

namespace {

constexpr std::size_t most_processes = 4096;
constexpr std::string_view epoll_link = "anon_inode:[eventpoll]";

template <class Number>
Number number_of(std::string_view text, int base = 10) noexcept {
  Number out{};
  std::from_chars(text.data(), text.data() + text.size(), out, base);
  return out;
}

}  // namespace

Births::Born* Births::find(std::uint64_t inode) {
  const auto at = sockets_.find(inode);
  return at == sockets_.end() ? nullptr : &at->second;
}

const Births::Born* Births::adopt_listener(UniqueFd listener) {
  Born born;
  socklen_t size = sizeof born.domain;
  const std::uint64_t inode = socket_inode(listener.get());
  if (inode == 0 || getsockopt(listener.get(), SOL_SOCKET, SO_DOMAIN, &born.domain, &size) != 0) return nullptr;
  size = sizeof born.type;
  getsockopt(listener.get(), SOL_SOCKET, SO_TYPE, &born.type, &size);
  size = sizeof born.cookie;
  getsockopt(listener.get(), SOL_SOCKET, SO_COOKIE, &born.cookie, &size);
  born.bound = born.listens = true;
  born.copy = std::move(listener);
  return &(sockets_[inode] = std::move(born));
}

void Births::let_go(std::uint64_t inode) {
  if (Born* born = find(inode)) born->copy.reset();
}

std::size_t Births::copies() const noexcept { return sockets_.size() + epolls_.size(); }

bool Births::any_copy() const noexcept {
  return std::any_of(sockets_.begin(), sockets_.end(),
                     [](const auto& each) { return static_cast<bool>(each.second.copy); });
}

bool Births::any_bound() const noexcept {
  return std::any_of(sockets_.begin(), sockets_.end(), [](const auto& each) { return each.second.bound; });
}

// All epoll sets share one inode; a registration that never fires tells ours apart.
bool Births::mark(std::uint64_t marker, const UniqueFd& epoll) {
  if (!marker_) marker_.reset(eventfd(0, EFD_CLOEXEC));
  epoll_event event{};
  event.data.u64 = marker;
  return epoll_ctl(epoll.get(), EPOLL_CTL_ADD, marker_.get(), &event) == 0;
}

std::uint64_t Births::add_epoll(pid_t process, int number, UniqueFd copy) {
  if (!mark(last_marker_ + 1, copy)) return 0;
  numbers_[{process, number}] = ++last_marker_;
  epolls_[last_marker_] = std::move(copy);
  return last_marker_;
}

// The mark of the agent before us went with its descriptor.
void Births::adopt_epoll(std::uint64_t marker, UniqueFd copy) {
  if (!mark(marker, copy)) return;
  last_marker_ = std::max(last_marker_, marker);
  epolls_[marker] = std::move(copy);
}

std::uint64_t Births::marker_in(pid_t process, int number) {
  const std::string path = "/proc/" + std::to_string(process) + "/fdinfo/" + std::to_string(number);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char part[4096];
  for (ssize_t size; fd && (size = read(fd.get(), part, sizeof part)) > 0;) {
    text.append(part, static_cast<std::size_t>(size));
    constexpr std::string_view wanted = "data: 746f7770";
    const auto at = text.find(wanted);
    if (at != text.npos && text.size() > at + 32) return number_of<std::uint64_t>(text.substr(at + 6, 16), 16);
    if (at == text.npos && text.size() > 64) text.erase(0, text.size() - 64);
  }
  return 0;
}

UniqueFd Births::epoll(pid_t process, int number) {
  char link[64];
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(number);
  const ssize_t size = readlink(path.c_str(), link, sizeof link);
  if (size <= 0 || std::string_view(link, static_cast<std::size_t>(size)) != epoll_link) return {};
  std::uint64_t& marker = numbers_[{process, number}];
  if (marker == 0 || !epolls_.contains(marker)) marker = marker_in(process, number);
  const auto at = epolls_.find(marker);
  return at == epolls_.end() ? UniqueFd() : UniqueFd(fcntl(at->second.get(), F_DUPFD_CLOEXEC, 3));
}

bool Births::sweep(std::vector<pid_t> roots) {
  std::unordered_set<std::uint64_t> held, markers;
  const bool look_into_epolls = epolls_.size() > few_epolls;
  const Walk walk = walk_descriptors(std::move(roots), most_processes,
                                     [&](pid_t process, std::string_view number, std::string_view link) {
                                       if (link.starts_with("socket:["))
                                         held.insert(number_of<std::uint64_t>(link.substr(8)));
                                       else if (look_into_epolls && link == epoll_link)
                                         markers.insert(marker_in(process, number_of<int>(number)));
                                       return true;
                                     });
  if (walk != Walk::complete) return false;
  bool listener_went = false;
  std::erase_if(sockets_, [&](const auto& each) {
    if (held.contains(each.first)) return false;
    listener_went = listener_went || each.second.listens;
    return true;
  });
  if (look_into_epolls) std::erase_if(epolls_, [&](const auto& each) { return !markers.contains(each.first); });
  std::erase_if(numbers_, [&](const auto& each) { return !epolls_.contains(each.second); });
  sweep_at_ = std::max(first_sweep, copies() * 2);
  return listener_went;
}

}  // namespace towpath
