#include "launcher/reloader.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/unique_fd.h"

namespace towpath {

namespace {

constexpr int most_rounds = 2;  // the files could change with each look at them

// Has somebody opened it for writing? A lease for reading is refused then. Only the file's owner and root may ask; of
// others' files only what inotify and the times say is known.
bool being_written(const std::string& file) {
  const UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  // The lease is given back at once. Who opens the file in between makes the kernel send a signal, SIGIO by default,
  // which would end this process; SIGURG is ignored.
  if (!fd || fcntl(fd.get(), F_SETSIG, SIGURG) != 0) return false;
  if (fcntl(fd.get(), F_SETLEASE, F_RDLCK) != 0) return errno == EAGAIN;
  fcntl(fd.get(), F_SETLEASE, F_UNLCK);
  return false;
}

}  // namespace

Reloader::Reloader(uv_loop_t* loop, Agent& agent, Sources sources, const Log& log, std::function<void()> applied)
    : loop_(loop),
      agent_(agent),
      sources_(std::move(sources)),
      log_(log),
      applied_(std::move(applied)),
      watch_(loop, [this] { ask(); }) {
  hangup_.open(this, [&](uv_signal_t* handle) { return uv_signal_init(loop, handle); });
  uv_signal_start(
      hangup_.get(), [](uv_signal_t* handle, int) { static_cast<Reloader*>(handle->data)->ask(); }, SIGHUP);
  // Which files there are is known by reading them. What has changed since this process was given its policy is
  // taken on soon.
  watched_ = load(sources_).files;
  watch();
  ask();
}

void Reloader::ask() {
  if (asked_ms_ == 0) asked_ms_ = uv_now(loop_);
  else if (uv_now(loop_) - asked_ms_ >= most_patience_ms) return;  // who never rests must not put it off for ever
  settle();
}

void Reloader::settle() {
  stamps_ = stamps();
  if (!quiet_) quiet_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
  uv_timer_start(
      quiet_.get(), [](uv_timer_t* handle) { static_cast<Reloader*>(handle->data)->look(); }, quiet_ms, 0);
}

void Reloader::look() {
  // Armed before they are read, so that what happens meanwhile is seen; which files there are shows by reading.
  watch();
  if (uv_now(loop_) - asked_ms_ < most_patience_ms) {
    if (stamps() != stamps_) return settle();
    const std::vector<std::string> all = files();
    if (std::any_of(all.begin(), all.end(), being_written)) return settle();
  } else {
    stamps_ = stamps();  // from here on only what changes under the reading counts
  }
  Reconsidered fresh = reconsider(agent_.policy(), agent_.inbound_possible(), sources_);
  if (watched_ != fresh.files) {
    watched_ = fresh.files;
    watch();
    if (rounds_++ < most_rounds) return settle();
  }
  if (stamps() != stamps_ && rounds_++ < most_rounds) return settle();
  asked_ms_ = 0;
  rounds_ = 0;
  take(std::move(fresh));
}

void Reloader::take(Reconsidered fresh) {
  std::string why = fresh.refused;
  const bool news = !fresh.changes.empty() || fresh.at_next_start != waiting_;
  if (why.empty() && (!fresh.policy || !news)) {
    good_ = watched_;
    LogLine(log_, Level::debug, "reload_unchanged").shown_to(agent_.any_asker());
    return;
  }
  if (!fresh.policy || !agent_.set_policy(fresh.policy, why)) {
    LogLine(log_, Level::error, "reload_failed")
        .shown_to(agent_.any_asker())
        .add("reason", why)
        .add("hint", "the configuration of before stays in force; correct the file, or restart towpath");
    return agent_.note_reload(false, std::move(why));
  }
  good_ = watched_;
  waiting_ = fresh.at_next_start;
  // A warning, since that is what is shown unless somebody asks for more or less.
  LogLine line(log_, Level::warning, "reloaded");
  line.shown_to(agent_.any_asker()).add("source", fresh.policy->source).add("changed", in_one_line(fresh.changes));
  if (!fresh.at_next_start.empty()) line.add("at_the_next_start", in_one_line(fresh.at_next_start));
  if (!fresh.warnings.empty()) line.add("warnings", in_one_line(fresh.warnings));
  agent_.note_reload(true, {});
  if (applied_) applied_();
}

// A configuration that cannot be read does not say which files belong to it: those of the last good one count as well.
std::vector<std::string> Reloader::files() const {
  std::vector<std::string> all = good_;
  all.insert(all.end(), watched_.begin(), watched_.end());
  return all;
}

Reloader::Stamps Reloader::stamps() const {
  Stamps out;
  for (const std::string& file : files()) {
    struct stat now {};
    if (stat(file.c_str(), &now) != 0) now = {};
    out.push_back({static_cast<std::int64_t>(now.st_dev), static_cast<std::int64_t>(now.st_ino), now.st_size,
                   now.st_mtim.tv_sec, now.st_mtim.tv_nsec, now.st_ctim.tv_sec * 1'000'000'000 + now.st_ctim.tv_nsec});
  }
  return out;
}

void Reloader::watch() {
  std::string why;
  const bool watched = watch_.watch(files(), why);
  if (std::exchange(complained_, !watched) || watched) return;
  LogLine(log_, Level::warning, "config_not_watched")
      .shown_to(agent_.any_asker())
      .add("reason", why)
      .add("hint", "send SIGHUP to the agent after a change");
}

}  // namespace towpath
