// Says when one of the files that a configuration came from may have changed: written in place, renamed over, or
// reached by another way because a symbolic link or a directory on the way to it was exchanged (Kubernetes' ..data).
//
// inotify, on directories: on each that has a link or a file of the way in it, and on those above, since a directory
// may be exchanged as well. The file itself is watched, too: a single file that was mounted into a container is
// written through another directory. No polling: where no notice comes (a file system of another machine, a renamed
// file behind a mount of a single one), SIGHUP is left.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/uv.h"
#include "base/unique_fd.h"

namespace towpath {

// A directory and a name in it that lead to a file, from the root on. The last place is the file's own.
struct WatchedPlace {
  std::string directory;
  std::string name;

  friend bool operator==(const WatchedPlace&, const WatchedPlace&) = default;
};

// The way to `path` (absolute), symbolic links followed as the kernel does. Ends at the first name that is not there.
[[nodiscard]] std::vector<WatchedPlace> way_to(const std::string& path);

class ConfigWatch {
 public:
  using Changed = std::function<void()>;

  // `changed` is called from the loop, when it has been quiet for `quiet_ms` since something happened, and after
  // `longest_ms` in any case.
  ConfigWatch(uv_loop_t* loop, Changed changed) : loop_(loop), changed_(std::move(changed)) {}

  // From now on these files. False with the reason: not all of them can be watched. What happens after this call is
  // noticed.
  [[nodiscard]] bool watch(std::vector<std::string> files, std::string& why);

 private:
  static constexpr std::uint64_t quiet_ms = 200, longest_ms = 2000;

  bool arm(std::string& why);
  bool add(const std::string& path, std::uint32_t mask, const std::string& name, std::string& why);
  void read();
  void pause_over();

  uv_loop_t* loop_;
  Changed changed_;
  std::vector<std::string> files_;
  UniqueFd inotify_;
  std::map<int, std::vector<std::string>> names_;  // by watch; empty: anything
  UvPoll poll_;
  UvTimer timer_;
  std::uint64_t since_ms_ = 0;  // of the first event that nobody was told of; 0: none
};

}  // namespace towpath
