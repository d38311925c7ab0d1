#include "agent/conversation.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

struct Packet {
  std::byte bytes[wire::max_message + 1];
  ssize_t size = 0;
  bool truncated = false;
  bool lost_descriptors = false;
  std::vector<UniqueFd> descriptors;
};

void receive(int fd, Packet& out) {
  iovec data{out.bytes, sizeof out.bytes};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int) * wire::max_descriptors)];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof room;
  out.size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (out.size < 0) return;
  out.truncated = (message.msg_flags & MSG_TRUNC) != 0;
  out.lost_descriptors = (message.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= head->cmsg_len; at += sizeof(int)) {
      int passed;
      std::memcpy(&passed, reinterpret_cast<const char*>(head) + at, sizeof passed);
      out.descriptors.emplace_back(passed);
    }
  }
}

}  // namespace

std::string Asker::program() const {
  const UniqueFd fd(open(("/proc/" + std::to_string(pid) + "/comm").c_str(), O_RDONLY | O_CLOEXEC));
  char text[64];
  const ssize_t size = fd ? ::read(fd.get(), text, sizeof text) : -1;
  if (size <= 1) return "?";
  // A program may call itself anything.
  std::replace_if(
      text, text + size - 1, [](char c) { return c < ' ' || c > '~'; }, '?');
  return std::string(text, static_cast<std::size_t>(size - 1));
}

Conversation::Conversation(UniqueFd fd, Host& host) : fd_(std::move(fd)), host_(host) {}

void Conversation::start() {
  ucred who{};
  socklen_t size = sizeof who;
  // Process 0: the asker lives in a PID namespace that this agent cannot see; it is not of our tree.
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.pid == 0) return end();
  asker_ = {who.pid, who.uid};
  read();
}

void Conversation::wait_for_more() {
  if (over_ || watched_) return;
  watched_ = host_.sockets().watch(fd_.get(), EPOLLIN, this);
  if (!watched_) return lose();
  if (!asked_) host_.on_silent(*this);
}

void Conversation::lose() {
  if (answerer_ != nullptr) std::exchange(answerer_, nullptr)->on_asker_gone(*this);
  end();
}

void Conversation::read() {
  while (!over_) {
    Packet packet;
    receive(fd_.get(), packet);
    if (packet.size < 0 && (errno == EAGAIN || errno == EINTR)) return wait_for_more();
    wire::Message message{};
    const bool valid = packet.size > 0 && !packet.truncated &&
                       wire::decode({packet.bytes, static_cast<std::size_t>(packet.size)}, message) &&
                       host_.may_ask(asker_, message);
    if (!valid) return lose();
    // More than any ask has.
    if (packet.lost_descriptors && packet.descriptors.size() >= wire::max_descriptors) return lose();
    // What is missing is room in this process.
    if (packet.lost_descriptors) {
      host_.on_full();
      return asked_ ? lose() : answer(wire::Answer::refuse, ENFILE);
    }
    const bool follow_up =
        message.kind == wire::Ask::dialled || message.kind == wire::Ask::detach || message.kind == wire::Ask::took;
    if (follow_up != asked_) return lose();
    if (follow_up) {
      if (answerer_ == nullptr) return end();
      answerer_->on_message(*this, message);
      continue;
    }
    asked_ = true;
    host_.on_ask(*this, message, std::move(packet.descriptors));
  }
}

void Conversation::say(wire::Reply reply, int descriptor) {
  std::byte packet[wire::max_message];
  reply.page = host_.page_id();
  const std::size_t size = wire::encode(packet, reply);
  iovec data{packet, size};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = room;
    message.msg_controllen = sizeof room;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
  }
  // An asker that does not read its one answer has gone: its connection ends with this conversation.
  [[maybe_unused]] const auto sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Conversation::answer(const wire::Reply& reply, int descriptor) {
  say(reply, descriptor);
  end();
}

void Conversation::answer(wire::Answer kind, int number) {
  wire::Reply reply;
  reply.kind = kind;
  reply.number = number;
  answer(reply);
}

bool Conversation::dial(const Endpoint& to) {
  wire::Reply reply;
  reply.kind = wire::Answer::dial;
  reply.endpoint = to;
  say(reply);
  return true;
}

void Conversation::end() {
  if (over_) return;
  over_ = true;
  answerer_ = nullptr;
  if (watched_) host_.sockets().drop(fd_.get(), this);
  fd_.reset();
  host_.on_over(*this);
}

}  // namespace towpath
