#include "launcher/reloader.h"

#include <csignal>
#include <utility>

namespace towpath {

namespace {

constexpr int most_rounds = 2;  // the files could change with each look at them

}  // namespace

Reloader::Reloader(uv_loop_t* loop, Agent& agent, Sources sources, const Log& log, std::function<void()> applied)
    : agent_(agent), sources_(std::move(sources)), log_(log), applied_(std::move(applied)), watch_(loop, [this] {
        reload();
      }) {
  hangup_.open(this, [&](uv_signal_t* handle) { return uv_signal_init(loop, handle); });
  uv_signal_start(
      hangup_.get(), [](uv_signal_t* handle, int) { static_cast<Reloader*>(handle->data)->reload(); }, SIGHUP);
  // Which files there are is known by reading them. What has changed since this process was given its policy is
  // taken on at once.
  reload();
}

void Reloader::reload() {
  // Armed before they are read, so that what happens meanwhile is seen; which files there are shows by reading.
  watch();
  Reconsidered fresh = reconsider(agent_.policy(), agent_.inbound_possible(), sources_);
  for (int i = 0; i < most_rounds && watched_ != fresh.files; ++i) {
    watched_ = fresh.files;
    watch();
    fresh = reconsider(agent_.policy(), agent_.inbound_possible(), sources_);
  }
  std::string why = fresh.refused;
  if (why.empty() && !fresh.policy) {
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
  // A warning, since that is what is shown unless somebody asks for more or less.
  LogLine line(log_, Level::warning, "reloaded");
  line.shown_to(agent_.any_asker()).add("source", fresh.policy->source).add("changed", in_one_line(fresh.changes));
  if (!fresh.at_next_start.empty()) line.add("at_the_next_start", in_one_line(fresh.at_next_start));
  if (!fresh.warnings.empty()) line.add("warnings", in_one_line(fresh.warnings));
  agent_.note_reload(true, {});
  if (applied_) applied_();
}

// A configuration that cannot be read does not say which files belong to it: those of the last good one stay watched.
void Reloader::watch() {
  std::vector<std::string> files = good_;
  files.insert(files.end(), watched_.begin(), watched_.end());
  std::string why;
  if (watch_.watch(std::move(files), why) || std::exchange(complained_, true)) return;
  LogLine(log_, Level::warning, "config_not_watched")
      .shown_to(agent_.any_asker())
      .add("reason", why)
      .add("hint", "send SIGHUP to the agent after a change");
}

}  // namespace towpath
