#include "launcher/hang_watch.h"

#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "proto/page.h"

namespace towpath {

namespace {

static_assert(look_ms > static_cast<int>(page_beat_ms));
constexpr std::size_t mapped = 4096;
static_assert(offsetof(Page, beats) + sizeof(Page::beats) <= mapped);

std::int64_t now_ms() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// Halted by a debugger: whoever looks at the agent does not want another one.
bool is_examined(pid_t agent) {
  const UniqueFd fd(open(("/proc/" + std::to_string(agent) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t size = fd ? read(fd.get(), text, sizeof text) : -1;
  const std::string_view stat(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  const auto name_end = stat.rfind(") ");
  return name_end != stat.npos && name_end + 2 < stat.size() && stat[name_end + 2] == 't';
}

}  // namespace

HangWatch::HangWatch(int page) : looked_ms_(now_ms()) {
  void* const at = mmap(nullptr, mapped, PROT_READ, MAP_SHARED, page, 0);
  if (at != MAP_FAILED) page_ = at;
}

HangWatch::~HangWatch() {
  if (page_ != nullptr) munmap(const_cast<void*>(page_), mapped);
}

bool HangWatch::hangs(pid_t agent) {
  if (page_ == nullptr || agent == 0 || now_ms() - looked_ms_ < look_ms) return false;
  looked_ms_ = now_ms();
  const std::uint32_t beats = static_cast<const Page*>(page_)->beats.load(std::memory_order_relaxed);
  still_ = beats == seen_ ? still_ + 1 : 0;
  seen_ = beats;
  if (still_ >= most_still && is_examined(agent)) still_ = 0;
  return still_ >= most_still;
}

}  // namespace towpath
