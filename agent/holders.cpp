#include "agent/holders.h"

#include <cerrno>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/spare_descriptors.h"
#include "base/unique_fd.h"

namespace towpath {

namespace {

constexpr std::size_t most_processes = 256;  // a look at more would hold up the loop

struct CloseDirectory {
  void operator()(DIR* list) const noexcept { closedir(list); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

Directory open_directory(pid_t pid, const char* name) {
  return Directory(opendir(("/proc/" + std::to_string(pid) + name).c_str()));
}

// An entry that cannot be opened: of a process that has ended, or of one that we may not look into?
// A zombie holds nothing, and only root may look at its empty table.
bool has_ended(pid_t pid, int error) {
  if (error == ENOENT || error == ESRCH) return true;
  const UniqueFd fd(open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t size = fd ? read(fd.get(), text, sizeof text) : -1;
  const std::string_view stat(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  const auto name_end = stat.rfind(") ");
  return name_end != stat.npos && name_end + 2 < stat.size() &&
         (stat[name_end + 2] == 'Z' || stat[name_end + 2] == 'X');
}

// False: `see` wants no more.
bool see_descriptors(pid_t pid, const SeeDescriptor& see, bool& all) {
  const Directory list = open_directory(pid, "/fd");
  if (!list) {
    all = all && has_ended(pid, errno);
    return true;
  }
  while (const dirent* entry = readdir(list.get())) {
    char text[64];
    const ssize_t size = readlinkat(dirfd(list.get()), entry->d_name, text, sizeof text);
    if (size > 0 && !see(pid, entry->d_name, {text, static_cast<std::size_t>(size)})) return false;
  }
  return true;
}

// Children are listed with the thread that made them. False: this kernel does not tell.
bool add_children(pid_t pid, std::vector<pid_t>& out) {
  const Directory threads = open_directory(pid, "/task");
  if (!threads) return has_ended(pid, errno);
  while (const dirent* entry = readdir(threads.get())) {
    if (entry->d_name[0] == '.') continue;
    const UniqueFd fd(
        openat(dirfd(threads.get()), (std::string(entry->d_name) + "/children").c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
      if (faccessat(dirfd(threads.get()), entry->d_name, F_OK, 0) == 0) return false;
      continue;
    }
    char text[4096];
    const ssize_t size = read(fd.get(), text, sizeof text);
    if (size == static_cast<ssize_t>(sizeof text)) return false;
    for (const char *at = text, *end = text + (size < 0 ? 0 : size); at < end;) {
      pid_t child = 0;
      const auto [next, error] = std::from_chars(at, end, child);
      if (error != std::errc{}) break;
      out.push_back(child);
      at = next + 1;
    }
  }
  return true;
}

}  // namespace

Walk walk_descriptors(std::vector<pid_t> roots, std::size_t most_processes, const SeeDescriptor& see) {
  std::unordered_set<pid_t> seen;
  bool all = true;
  // Two are open at once. Where there is no room, those that are no longer wanted must be found all the more.
  const SpareDescriptors room;
  while (!roots.empty()) {
    const pid_t pid = roots.back();
    roots.pop_back();
    if (!seen.insert(pid).second) continue;
    if (seen.size() > most_processes) return Walk::incomplete;
    if (pid != getpid() && !see_descriptors(pid, see, all)) return Walk::stopped;
    if (!add_children(pid, roots)) return Walk::incomplete;
  }
  return all ? Walk::complete : Walk::incomplete;
}

bool held_elsewhere(std::vector<pid_t> roots, int socket, pid_t except, int except_fd) {
  struct stat status {};
  if (fstat(socket, &status) != 0) return true;
  const std::string link = "socket:[" + std::to_string(status.st_ino) + "]";
  const std::string excepted = std::to_string(except_fd);
  return walk_descriptors(std::move(roots), most_processes,
                          [&](pid_t pid, std::string_view number, std::string_view to) {
                            return to != link || (pid == except && number == excepted);
                          }) != Walk::complete;
}

}  // namespace towpath
