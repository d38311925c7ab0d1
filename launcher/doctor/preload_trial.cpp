#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>

#include <poll.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "launcher/doctor/child.h"
#include "launcher/doctor/experiment.h"
#include "proto/wire.h"

namespace towpath::doctor {

namespace {

// The kernel chooses a free abstract name (unix(7), autobind). Its own has no NUL inside.
UniqueFd listen_somewhere(std::string& name) {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(sa_family_t);
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd.get(), 4) != 0) return {};
  size = sizeof address;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  name.assign(address.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1);
  return fd;
}

// The head of this very executable: to whoever looks, a static program that is not towpath. It is never executed.
UniqueFd static_program(const std::string& self) {
  char head[4096];
  const UniqueFd from(open(self.c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd to(static_cast<int>(syscall(SYS_memfd_create, "towpath-doctor", 0)));  // inherited
  const ssize_t size = from ? read(from.get(), head, sizeof head) : -1;
  return to && size > 0 && write(to.get(), head, static_cast<std::size_t>(size)) == size ? std::move(to) : UniqueFd();
}

}  // namespace

PreloadFindings try_preload(const std::string& shell, const std::string& library, const std::string& self) {
  PreloadFindings found;
  std::string name;
  const UniqueFd agent = listen_somewhere(name);
  int ends[2];
  const UniqueFd program = static_program(self);
  if (!agent || !program || pipe2(ends, O_CLOEXEC) != 0) {
    found.error = errno;
    return found;
  }
  const UniqueFd words(ends[0]);
  UniqueFd their_words(ends[1]);
  const std::string preload = "LD_PRELOAD=" + library;
  const std::string control =
      std::string(wire::control_variable) + "=" + name + ":" + std::string(2 * wire::Token{}.size(), '0');
  const std::string command = "exec /proc/self/fd/" + std::to_string(program.get());
  const char* const arguments[] = {"sh", "-c", command.c_str(), nullptr};
  const char* const environment[] = {preload.c_str(), control.c_str(), nullptr};
  const Child child([&] {
    if (dup2(their_words.get(), 1) == -1 || dup2(their_words.get(), 2) == -1) return;
    execve(shell.c_str(), const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
    dprintf(2, "%s: %s\n", shell.c_str(), std::strerror(errno));
  });
  if (child.pid() == -1) {
    found.error = errno;
    return found;
  }
  their_words.reset();
  const time_t until = time(nullptr) + patience_seconds;
  while (time(nullptr) < until) {
    pollfd events[] = {{agent.get(), POLLIN, 0}, {words.get(), POLLIN, 0}};
    if (poll(events, 2, 1000) <= 0) continue;
    if ((events[0].revents & POLLIN) != 0) {
      found.asked = true;
      break;
    }
    char text[1024];
    const ssize_t size = read(words.get(), text, sizeof text);
    if (size <= 0) break;
    found.said.append(text, static_cast<std::size_t>(size));
  }
  found.said.resize(std::min(found.said.find('\n'), found.said.size()));
  return found;
}

}  // namespace towpath::doctor
