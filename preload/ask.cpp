#include "preload/complain.h"
#include "preload/ask.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "preload/net.h"
#include "preload/process.h"
#include "preload/standalone.h"
#include "base/sys.h"

namespace towpath {

namespace {

constexpr timeval answer_deadline{10, 0};  // an agent that says nothing for so long is stuck: fail closed

int open_connection(bool& out_of_descriptors) noexcept {
  if (!active()) return -1;
  AgentAddress agent;
  agent_address(agent);
  long fd = sys::call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  out_of_descriptors = fd == -EMFILE || fd == -ENFILE;
  if (fd < 0) return -1;
  if (fd < 3) {
    // A daemon may have closed its standard descriptors: another thread's printf must not reach the agent.
    const long higher = sys::call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
    sys::call(SYS_close, fd);
    if (higher < 0) return -1;
    fd = higher;
  }
  // A stuck agent with a full queue must not hold the program for ever.
  sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &answer_deadline, sizeof answer_deadline);
  const auto connect = [&] {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, agent.name, agent.name_size);
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + agent.name_size);
    long result;
    do {
      result = passing::call(SYS_connect, fd, &address, size);
    } while (result == -EINTR);
    return result == 0;
  };
  bool connected = connect();
  if (!connected && other_agent_address(agent)) connected = connect();
  if (!connected && agent.standalone && start_agent({agent.name, agent.name_size})) connected = connect();
  if (connected &&
      (agent.standalone ? recognise_agent(static_cast<int>(fd), agent.user) : trusted_agent(static_cast<int>(fd))))
    return static_cast<int>(fd);
  if (connected) complain_once("another user's process has taken the agent's place", "no connection is made");
  else if (!agent.standalone && program_runs())
    complain_once("no agent answers at the address in TOWPATH_CONTROL",
                  "no connection is made; start this program by towpath run, or unset TOWPATH_CONTROL and LD_PRELOAD");
  sys::call(SYS_close, fd);
  return -1;
}

}  // namespace

Conversation::Conversation() noexcept { fd_ = open_connection(out_of_descriptors_); }

Conversation::~Conversation() {
  if (fd_ >= 0) sys::call(SYS_close, fd_);
}

bool Conversation::say(wire::Message& ask, std::span<const int> descriptors) noexcept {
  if (fd_ < 0) return false;
  // A standalone agent tells the token together with its page.
  const bool may_ask = agent_token(ask.token);
  if (!may_ask && ask.kind != wire::Ask::hello && (page() == nullptr || !agent_token(ask.token))) return false;
  const std::size_t size = wire::encode(packet_, ask);
  if (size == 0 || descriptors.size() > wire::max_descriptors) return false;
  iovec data{packet_, size};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int) * wire::max_descriptors)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = room;
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size_bytes());
  }
  long sent;
  do {
    sent = passing::call(SYS_sendmsg, fd_, &message, MSG_NOSIGNAL);
  } while (sent == -EINTR);
  return sent == static_cast<long>(size);
}

Conversation::Heard Conversation::hear(wire::Reply& out, bool wait, timeval timeout) noexcept {
  if (fd_ < 0) return Heard::lost;
  // A receive with a timeout is interrupted exactly when a connect with SO_SNDTIMEO is, and one without is
  // restarted exactly when a plain connect is (signal(7)): the kernel keeps that promise for us.
  if (!wait) timeout = answer_deadline;
  if (timeout.tv_sec != 0 || timeout.tv_usec != 0)
    sys::call(SYS_setsockopt, fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  long size;
  do {
    size = sys::call(SYS_recvfrom, fd_, packet_, sizeof packet_, 0, 0, 0);
  } while (size == -EINTR && !wait);
  // The agent gave its last word while ours (that we dialled) was under way, and closed without having read it: the
  // kernel tells of that first, once, and then hands out what was said.
  if (size == -ECONNRESET) size = sys::call(SYS_recvfrom, fd_, packet_, sizeof packet_, 0, 0, 0);
  if (size == -EINTR) return Heard::interrupted;
  if (size == -EAGAIN) return wait ? Heard::timed_out : Heard::lost;
  if (size <= 0 || !wire::decode({packet_, static_cast<std::size_t>(size)}, out)) return Heard::lost;
  note_page_id(out.page);
  return Heard::reply;
}

Conversation::Heard Conversation::hear_with_descriptor(wire::Reply& out, int& descriptor, bool close_on_exec) noexcept {
  descriptor = -1;
  if (fd_ < 0) return Heard::lost;
  iovec data{packet_, sizeof packet_};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof room;
  sys::call(SYS_setsockopt, fd_, SOL_SOCKET, SO_RCVTIMEO, &answer_deadline, sizeof answer_deadline);
  long size;
  do {
    size = passing::call(SYS_recvmsg, fd_, &message, close_on_exec ? MSG_CMSG_CLOEXEC : 0);
  } while (size == -EINTR);
  const cmsghdr* head = size > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (head != nullptr && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof(int)))
    std::memcpy(&descriptor, CMSG_DATA(head), sizeof descriptor);
  if (size > 0 && wire::decode({packet_, static_cast<std::size_t>(size)}, out)) return Heard::reply;
  if (descriptor >= 0) sys::call(SYS_close, descriptor);
  descriptor = -1;
  return Heard::lost;
}

namespace {

int ask_for_memory(wire::Ask kind) noexcept {
  for (int i = 0; i < most_agents; ++i) {
    Conversation talk;
    wire::Message ask{};
    wire::Reply reply;
    ask.kind = kind;
    int fd = -1;
    if (!talk.ok()) return -1;
    if (!talk.say(ask) || talk.hear_with_descriptor(reply, fd, true) != Conversation::Heard::reply) continue;
    if (reply.kind == wire::Answer::page && fd >= 0) {
      if (kind == wire::Ask::hello) set_agent_token(reply.token);
      return fd;
    }
    if (fd >= 0) sys::call(SYS_close, fd);
    return -1;
  }
  return -1;
}

}  // namespace

int ask_for_page() noexcept { return ask_for_memory(wire::Ask::hello); }
int ask_for_clients() noexcept { return ask_for_memory(wire::Ask::clients); }

bool begin_watch(Conversation& talk, std::span<const std::uint64_t> cookies) noexcept {
  wire::Message ask{};
  ask.kind = wire::Ask::watch;
  for (const std::uint64_t cookie : cookies) {
    if (ask.watch.count == wire::max_watched) break;
    ask.watch.cookies[ask.watch.count++] = cookie;
  }
  return talk.say(ask);
}

SocketState settled_state(const PageEntry& entry) noexcept {
  for (int tries = 0; tries < 2; ++tries) {
    const SocketState state = state_of(entry);
    if (state != SocketState::pending) return state;
    // An answer comes from an agent that lives: one that began after the socket's has marked it lost before.
    Conversation talk;
    wire::Reply reply;
    if (begin_watch(talk, {}) && talk.hear(reply, false) == Conversation::Heard::reply) return state_of(entry);
  }
  return SocketState::lost;
}

void wait_until_decided(std::uint64_t cookie) noexcept {
  Conversation talk;
  wire::Reply reply;
  if (begin_watch(talk, {&cookie, 1})) (void)talk.hear(reply, true);
}

}  // namespace towpath
