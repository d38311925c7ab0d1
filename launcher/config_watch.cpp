#include "launcher/config_watch.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

namespace towpath {

namespace {

constexpr int most_links = 40;  // as the kernel has it
constexpr std::uint32_t exchanged = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;

void prepend(std::deque<std::string>& names, std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(part.size() + 1, path.size()));
    if (!part.empty() && part != ".") parts.emplace_back(part);
  }
  names.insert(names.begin(), parts.begin(), parts.end());
}

std::string below(const std::string& directory, const std::string& name) {
  return (directory == "/" ? "" : directory) + "/" + name;
}

}  // namespace

std::vector<WatchedPlace> way_to(const std::string& path) {
  std::vector<WatchedPlace> out;
  std::deque<std::string> names;
  prepend(names, path);
  std::string at = "/";
  int links = 0;
  while (!names.empty()) {
    const std::string name = names.front();
    names.pop_front();
    if (name == "..") {
      const auto slash = at.rfind('/');
      at = slash == 0 ? "/" : at.substr(0, slash);
      continue;
    }
    WatchedPlace place{at, name};
    if (std::find(out.begin(), out.end(), place) == out.end()) out.push_back(std::move(place));
    const std::string whole = below(at, name);
    struct stat status {};
    if (lstat(whole.c_str(), &status) != 0) return out;
    if (!S_ISLNK(status.st_mode)) {
      at = whole;
      continue;
    }
    char target[PATH_MAX];
    const ssize_t size = readlink(whole.c_str(), target, sizeof target);
    if (size <= 0 || ++links > most_links) return out;
    if (target[0] == '/') at = "/";
    prepend(names, {target, static_cast<std::size_t>(size)});
  }
  return out;
}

bool ConfigWatch::add(const std::string& path, std::uint32_t mask, const std::string& name, std::string& why) {
  const int watch = inotify_add_watch(inotify_.get(), path.c_str(), mask);
  if (watch < 0) {
    // What we may not look into, or what has gone since, is noticed from above.
    if (errno != ENOSPC && errno != ENOMEM) return true;
    why = std::string(std::strerror(errno)) + " (fs.inotify.max_user_watches)";
    return false;
  }
  const auto [at, fresh] = names_.try_emplace(watch);
  if (name.empty()) at->second.clear();
  else if (fresh || !at->second.empty()) at->second.push_back(name);
  return true;
}

bool ConfigWatch::watch(std::vector<std::string> files, std::string& why) {
  files_ = std::move(files);
  // Anew each time: watches of directories that are none of the way any more would stay for ever. What cannot be made
  // anew leaves the old one as it is.
  UniqueFd inotify = std::move(inotify_);
  std::map<int, std::vector<std::string>> names = std::exchange(names_, {});
  UvPoll poll = std::move(poll_);
  if (arm(why)) return true;
  poll_ = std::move(poll);
  names_ = std::move(names);
  inotify_ = std::move(inotify);
  return false;
}

bool ConfigWatch::arm(std::string& why) {
  if (files_.empty()) return true;
  inotify_.reset(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_) {
    why = std::string(std::strerror(errno)) +
          (errno == EMFILE ? " (fs.inotify.max_user_instances, or the limit of open files)" : "");
    return false;
  }
  std::map<std::string, std::uint32_t> masks;  // an inode has one mask
  std::vector<WatchedPlace> places;
  for (const std::string& file : files_) {
    const std::vector<WatchedPlace> way = way_to(file);
    for (std::size_t i = 0; i < way.size(); ++i) {
      masks[way[i].directory] |= exchanged | (i + 1 == way.size() ? IN_CLOSE_WRITE : 0u);
      places.push_back(way[i]);
    }
  }
  for (const WatchedPlace& place : places)
    if (!add(place.directory, masks[place.directory] | IN_ONLYDIR, place.name, why)) return false;
  for (const std::string& file : files_)
    if (!add(file, IN_CLOSE_WRITE | IN_ATTRIB, {}, why)) return false;
  if (!poll_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(loop_, handle, inotify_.get()); })) {
    why = "libuv cannot watch";
    return false;
  }
  uv_poll_start(poll_.get(), UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<ConfigWatch*>(handle->data)->read(); });
  return true;
}

void ConfigWatch::read() {
  alignas(inotify_event) char buffer[4096];
  bool ours = false;
  ssize_t got;
  while ((got = ::read(inotify_.get(), buffer, sizeof buffer)) > 0) {
    for (ssize_t i = 0; i < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + i);
      i += static_cast<ssize_t>(sizeof *event) + event->len;
      if ((event->mask & IN_IGNORED) != 0) continue;
      const auto at = names_.find(event->wd);
      const std::string_view name(event->len != 0 ? event->name : "");
      ours = ours || (event->mask & IN_Q_OVERFLOW) != 0 ||
             (at != names_.end() &&
              (at->second.empty() || std::find(at->second.begin(), at->second.end(), name) != at->second.end()));
    }
  }
  if (!ours) return;
  const std::uint64_t now = uv_now(loop_);
  if (since_ms_ == 0) since_ms_ = now;
  const std::uint64_t end = std::min(now + quiet_ms, std::max(now, since_ms_ + longest_ms));
  if (!timer_) timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
  uv_timer_start(
      timer_.get(), [](uv_timer_t* handle) { static_cast<ConfigWatch*>(handle->data)->pause_over(); }, end - now, 0);
}

void ConfigWatch::pause_over() {
  since_ms_ = 0;
  changed_();
}

}  // namespace towpath
