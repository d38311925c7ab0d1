// `towpath status`: asks the agents of this network namespace what they are doing.
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/explain.h"
#include "launcher/commands.h"
#include "proto/wire.h"

namespace towpath {

namespace {

constexpr timeval patience{2, 0};  // for each step of one agent
constexpr std::size_t longest_text = 4 << 20;

// Control sockets that somebody listens on: "towpath-..." (agent/kept.cpp) and "towpath-uUID-..."
// (preload/standalone.cpp). False: there is no such list here.
bool find_agents(std::set<std::string>& out) {
  std::ifstream sockets("/proc/self/net/unix");
  if (!sockets) return false;
  std::string line;
  // Num RefCount Protocol Flags Type St Inode Path
  while (std::getline(sockets, line)) {
    std::istringstream words(line);
    std::string number, references, protocol, flags, type, state, inode, path;
    words >> number >> references >> protocol >> flags >> type >> state >> inode >> path;
    const bool listens = flags == "00010000" && type == "0005";
    // Anybody may make such a socket: what is printed of its name must be harmless.
    const bool plain = std::all_of(path.begin(), path.end(), [](char c) { return c > ' ' && c <= '~'; });
    if (listens && plain && path.starts_with("@towpath-") && path.size() <= wire::max_control_name)
      out.insert(path.substr(1));
  }
  return true;
}

struct Answer {
  std::string name;
  pid_t pid = 0;  // of the process that made the socket
  uid_t uid = 0;
  bool other = false;  // it answered, and is not the one that was asked for
  std::string text;    // empty: no answer, and why
  std::string why;
};

// What a process of this kind may have written is text for a terminal, whoever made it.
bool is_text(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < ' ' && byte != '\n') || byte == 0x7f) return false;
    // U+0080 to U+009F are controls as well.
    if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) return false;
  }
  return true;
}

// One JSON object and nothing behind it: whoever answers must not put words between those of others.
bool is_object(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') ++i;
    else if (c == '"') quoted = !quoted;
    else if (!quoted) depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (depth == 0) return c == '}' && i + 1 == text.size() && text[0] == '{';
  }
  return false;
}

// The text that came along. Only what nobody can change or shorten while it is read.
bool read_sealed(int fd, std::string& out) {
  constexpr int wanted = F_SEAL_SHRINK | F_SEAL_WRITE;
  struct stat info {};
  if ((fcntl(fd, F_GET_SEALS) & wanted) != wanted || fcntl(fd, F_GET_SEALS) < 0 || fstat(fd, &info) != 0 ||
      info.st_size <= 0 || static_cast<std::size_t>(info.st_size) > longest_text)
    return false;
  out.resize(static_cast<std::size_t>(info.st_size));
  return pread(fd, out.data(), out.size(), 0) == info.st_size && is_text(out);
}

// -1 and `why`, or the errno that the agent gave and the descriptor that it sent.
int receive(int socket, UniqueFd& descriptor, std::string& why) {
  std::byte packet[wire::max_message];
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))];
  iovec data{packet, sizeof packet};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof room;
  const ssize_t size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (size > 0)
    for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head))
      if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        int passed;
        std::memcpy(&passed, CMSG_DATA(head), sizeof passed);
        descriptor.reset(passed);
      }
  wire::Reply reply;
  if (size < 0 && errno == EAGAIN) why = "does not answer";
  else if (size <= 0) why = "hung up: it is of another version, or this process is not in its PID namespace";
  else if (!wire::decode({packet, static_cast<std::size_t>(size)}, reply) || reply.kind != wire::Answer::done)
    why = "does not speak this version's protocol";
  else return reply.number;
  return -1;
}

Answer ask(const std::string& name, const wire::Token* token, const StatusOptions& options) {
  Answer out;
  out.name = name;
  const UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (!fd || connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) {
    out.why = errno == EAGAIN ? "does not answer" : std::strerror(errno);
    return out;
  }
  ucred who{};
  socklen_t room = sizeof who;
  getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &room);
  out.pid = who.pid;
  out.uid = who.uid;
  if (token == nullptr && geteuid() != 0 && who.uid != geteuid()) {
    out.why = "belongs to user " + std::to_string(who.uid) + ": ask as that user, or as root";
    return out;
  }
  wire::Message message{};
  message.kind = wire::Ask::status;
  if (token != nullptr) message.token = *token;
  message.status.format = options.json ? wire::StatusFormat::json : wire::StatusFormat::text;
  message.status.pid = options.pid;
  std::byte packet[wire::max_message];
  const std::size_t length = wire::encode(packet, message);
  if (send(fd.get(), packet, length, MSG_NOSIGNAL) != static_cast<ssize_t>(length)) {
    out.why = "does not answer";
    return out;
  }
  UniqueFd text;
  const int error = receive(fd.get(), text, out.why);
  out.other = error == ESRCH;
  if (error > 0 && !out.other) out.why = std::strerror(error);
  const bool read = error == 0 && text && read_sealed(text.get(), out.text);
  if (error == 0 && !(read && (!options.json || is_object(out.text.substr(0, out.text.find('\n')))))) {
    out.text.clear();
    out.why = "sent something that is no status";
  }
  return out;
}

void print_json(const std::vector<Answer>& answers) {
  std::string agents, unanswered;
  for (const Answer& each : answers) {
    if (!each.text.empty()) agents += (agents.empty() ? "" : ",") + each.text.substr(0, each.text.find('\n'));
    else
      unanswered += (unanswered.empty() ? "" : ",") + ("{\"name\":" + json_text(each.name)) +
                    ",\"pid\":" + std::to_string(each.pid) + ",\"uid\":" + std::to_string(each.uid) +
                    ",\"reason\":" + json_text(each.why) + "}";
  }
  std::printf("{\"agents\":[%s],\"unanswered\":[%s]}\n", agents.c_str(), unanswered.c_str());
}

void print_text(const std::vector<Answer>& answers) {
  bool first = true;
  for (const Answer& each : answers) {
    if (each.text.empty()) continue;
    std::printf("%s", first ? "" : "\n");
    // An agent tells who it is, but anybody can say anything.
    if (each.uid != geteuid()) std::printf("process %d of user %u says:\n", each.pid, each.uid);
    std::printf("%s", each.text.c_str());
    first = false;
  }
  std::fflush(stdout);
  std::string silent;
  std::size_t count = 0;
  for (const Answer& each : answers) {
    if (!each.text.empty()) continue;
    ++count;
    silent += (silent.empty() ? "" : "; ") + each.name + " (pid " + std::to_string(each.pid) + ") " + each.why;
  }
  if (count != 0)
    std::fprintf(stderr, "towpath: %zu %s not shown: %s\n", count, count == 1 ? "agent" : "agents", silent.c_str());
}

}  // namespace

int status_command(const StatusOptions& options) {
  std::set<std::string> names;
  const bool listed = find_agents(names);
  wire::Control own;
  const char* variable = std::getenv(wire::control_variable.data());
  const bool below = variable != nullptr && wire::parse_control(variable, own);
  const std::string own_name = below ? std::string(own.name, own.name_size) : std::string();
  if (below) names.insert(own_name);
  if (!listed && !below) {
    std::fprintf(stderr,
                 "towpath: status finds agents in /proc/net/unix, which is not here: mount /proc, or set %s "
                 "to what a process of the tree has\n",
                 wire::control_variable.data());
    return exit_towpath_failed;
  }
  std::vector<Answer> answers;
  std::size_t shown = 0;
  for (const std::string& name : names) {
    Answer answer = ask(name, name == own_name ? &own.token : nullptr, options);
    if (answer.other || (options.pid != 0 && answer.text.empty() && answer.pid != options.pid)) continue;
    if (!answer.text.empty()) ++shown;
    answers.push_back(std::move(answer));
  }
  if (options.json) print_json(answers);
  else print_text(answers);
  if (shown != 0) return 0;
  if (answers.empty())
    std::fprintf(stderr, "towpath: no agent %s\n",
                 options.pid != 0 ? "serves that process" : "runs in this network namespace");
  return 1;
}

}  // namespace towpath
