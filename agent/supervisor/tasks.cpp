#include "agent/supervisor/tasks.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/program_file.h"

namespace towpath {

namespace {

std::string place(pid_t tid, std::string_view what) { return "/proc/" + std::to_string(tid) + "/" + std::string(what); }

std::size_t read_status(pid_t tid, char (&out)[8192]) {
  const UniqueFd fd(open(place(tid, "status").c_str(), O_RDONLY | O_CLOEXEC));
  const ssize_t size = fd ? read(fd.get(), out, sizeof out) : -1;
  return size > 0 ? static_cast<std::size_t>(size) : 0;
}

// The number behind "\nNAME:\t".
std::uint64_t field(std::string_view status, std::string_view name, int base) {
  const auto at = status.find(name);
  std::uint64_t out = 0;
  if (at != status.npos) std::from_chars(status.data() + at + name.size(), status.data() + status.size(), out, base);
  return out;
}

std::uint64_t inode_in(std::string_view link) noexcept {
  constexpr std::string_view head = "socket:[";
  std::uint64_t out = 0;
  if (link.starts_with(head)) std::from_chars(link.data() + head.size(), link.data() + link.size(), out);
  return out;
}

}  // namespace

pid_t Tasks::process_of(pid_t tid) {
  if (tid <= 0) return 0;
  if (const auto known = threads_.find(tid); known != threads_.end()) {
    // The number may have become another process's thread since.
    if (syscall(SYS_tgkill, known->second, tid, 0) == 0 || errno == EPERM) return known->second;
    threads_.erase(known);
  }
  char status[8192];
  errno = ESRCH;
  const std::size_t size = read_status(tid, status);
  const auto process = static_cast<pid_t>(field({status, size}, "\nTgid:\t", 10));
  if (process <= 0) return 0;  // errno: of the open
  if (threads_.size() >= most_threads) threads_.clear();
  threads_[tid] = process;
  return process;
}

UniqueFd Tasks::take_descriptor(pid_t tid, int number) {
  // Linux 6.9: the thread itself, whose table of descriptors may be another than its process's.
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
  if (threads_have_pidfds_) {
    const UniqueFd thread(static_cast<int>(syscall(SYS_pidfd_open, tid, PIDFD_THREAD)));
    if (thread) return UniqueFd(static_cast<int>(syscall(SYS_pidfd_getfd, thread.get(), number, 0)));
    if (errno != EINVAL) return {};
    threads_have_pidfds_ = false;
  }
  const pid_t process = process_of(tid);
  if (process == 0) return {};
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
  if (!pidfd) return {};
  UniqueFd out(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)));
  if (process == tid) return out;
  // Nothing may be concluded from the process's first thread where this one has a table of its own.
  const int error = errno;
  const std::uint64_t wanted = socket_inode(tid, number);
  if (wanted == 0 || (out && socket_inode(out.get()) == wanted)) {
    errno = wanted == 0 ? (errno == ENOENT ? EBADF : errno) : error;
    return wanted == 0 ? UniqueFd() : std::move(out);
  }
  errno = EACCES;
  return {};
}

bool Tasks::is_go(pid_t process) {
  const UniqueFd file(open(place(process, "exe").c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file || fstat(file.get(), &status) != 0) return false;
  if (processes_.size() >= most_processes) processes_.clear();
  Process& known = processes_[process];
  if (known.device != status.st_dev || known.inode != status.st_ino) {
    ProgramFile program;
    inspect_image(file.get(), program);
    known.device = status.st_dev;
    known.inode = status.st_ino;
    known.go = program.go;
  }
  return known.go;
}

int read_memory(pid_t tid, std::uint64_t from, void* to, std::size_t size) noexcept {
  const iovec ours{to, size}, theirs{reinterpret_cast<void*>(from), size};
  const ssize_t got = process_vm_readv(tid, &ours, 1, &theirs, 1, 0);
  if (got == static_cast<ssize_t>(size)) return 0;
  return got >= 0 ? EFAULT : errno;
}

int write_memory(pid_t tid, std::uint64_t to, const void* from, std::size_t size) noexcept {
  const iovec ours{const_cast<void*>(from), size}, theirs{reinterpret_cast<void*>(to), size};
  const ssize_t put = process_vm_writev(tid, &ours, 1, &theirs, 1, 0);
  if (put == static_cast<ssize_t>(size)) return 0;
  return put >= 0 ? EFAULT : errno;
}

int look_into(pid_t process, const wire::LookAsk& at, const wire::Token& token) noexcept {
  std::uint64_t seen = 0, half;
  std::memcpy(&half, token.data(), sizeof half);
  if (const int error = read_memory(process, at.address, &seen, sizeof seen); error != 0) return error;
  if (seen != half) return ESRCH;
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd", process);
  if (access(path, X_OK) != 0) return errno;
  // A profile that refuses the request does so before the kernel looks at the descriptor.
  return ioctl(-1, SECCOMP_IOCTL_NOTIF_RECV, nullptr) == -1 && errno != EBADF ? errno : 0;
}

std::uint64_t socket_inode(pid_t tid, int number) noexcept {
  char path[64], link[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", tid, number);
  const ssize_t size = readlink(path, link, sizeof link);
  if (size <= 0) return 0;
  errno = ENOTSOCK;
  return inode_in({link, static_cast<std::size_t>(size)});
}

std::uint64_t socket_inode(int own_descriptor) noexcept {
  struct stat status {};
  return fstat(own_descriptor, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

bool is_unix_socket(pid_t tid, std::uint64_t inode) {
  std::ifstream list("/proc/" + std::to_string(tid) + "/net/unix");
  // Num RefCount Protocol Flags Type St Inode Path
  constexpr int columns_before = 6;
  for (std::string line; std::getline(list, line);) {
    std::istringstream words(line);
    std::string skipped;
    for (int i = 0; i < columns_before; ++i) words >> skipped;
    std::uint64_t found = 0;
    if (words >> found && found == inode) return true;
  }
  return false;
}

bool signal_waits(pid_t tid) noexcept {
  char text[8192];
  const std::string_view status{text, read_status(tid, text)};
  std::uint64_t pending = field(status, "\nSigPnd:\t", 16);
  // One that is sent to the process may be another thread's to handle: then ours would return with an error number that
  // no program knows.
  if (field(status, "\nThreads:\t", 10) == 1) pending |= field(status, "\nShdPnd:\t", 16);
  return (pending & ~field(status, "\nSigBlk:\t", 16) & ~field(status, "\nSigIgn:\t", 16)) != 0;
}

}  // namespace towpath
