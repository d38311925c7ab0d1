#include "base/preload_list.h"

#include <cstring>

namespace towpath {

namespace {

constexpr std::string_view separators = " :";
constexpr std::string_view ours_follows = "::";

// Takes the next entry off the list; "" where two separators follow each other, and at the end.
std::string_view next_entry(std::string_view& list) noexcept {
  const std::size_t end = list.find_first_of(separators);
  std::string_view entry = list;
  if (end == list.npos) {
    list = {};
    return entry;
  }
  entry.remove_suffix(list.size() - end);
  list.remove_prefix(end + 1);
  return entry;
}

class Writer {
 public:
  explicit Writer(std::span<char> out) noexcept : out_(out) {}
  void put(std::string_view text) noexcept {
    if (text.size() > out_.size() - size_) {
      full_ = true;
      return;
    }
    std::memcpy(out_.data() + size_, text.data(), text.size());
    size_ += text.size();
  }
  void entry(std::string_view text) noexcept {
    if (size_ != 0) put(":");
    put(text);
  }
  [[nodiscard]] std::size_t size() const noexcept { return full_ ? 0 : size_; }

 private:
  std::span<char> out_;
  std::size_t size_ = 0;
  bool full_ = false;
};

// "RUNTIME::OURS" at the front: what we put there by ourselves.
bool begins_with_our_runtime(std::string_view list, std::string_view library) noexcept {
  std::string_view rest = list;
  const std::string_view runtime = next_entry(rest);
  list.remove_prefix(runtime.size());
  if (!insists_on_being_first(runtime) || !list.starts_with(ours_follows)) return false;
  next_entry(rest);
  return next_entry(rest) == library;
}

}  // namespace

bool insists_on_being_first(std::string_view library) noexcept {
  if (const auto slash = library.rfind('/'); slash != library.npos) library.remove_prefix(slash + 1);
  return library.starts_with("libasan.so") || library.starts_with("libclang_rt.asan");
}

bool preloads(std::string_view list, std::string_view library) noexcept {
  while (!list.empty())
    if (next_entry(list) == library) return true;
  return false;
}

std::size_t preload_list(std::span<char> out, std::string_view list, std::string_view library,
                         std::string_view runtime) noexcept {
  const std::string_view given = list;
  const bool ours = begins_with_our_runtime(list, library);
  if (ours) next_entry(list);
  // Somebody else's: the last one that insists, behind which we stand.
  std::size_t entries_before = 0, count = 0;
  bool behind = false;
  for (std::string_view rest = list; !rest.empty();) {
    const std::string_view entry = next_entry(rest);
    if (entry.empty()) continue;
    ++count;
    if (insists_on_being_first(entry)) {
      entries_before = count;
      behind = false;
    }
    if (entry == library) behind = true;
  }
  const bool adds_runtime = entries_before == 0 && !runtime.empty();
  Writer to(out);
  if (!adds_runtime && !ours && behind) {
    to.put(given);  // as it should be
    return to.size();
  }
  if (adds_runtime) {
    to.put(runtime);
    to.put(ours_follows);
    to.put(library);
  } else if (entries_before == 0) {
    to.put(library);
  }
  if (entries_before == 0 && !preloads(list, library)) {
    if (!list.empty()) to.entry(list);  // whatever stands between them
    return to.size();
  }
  count = 0;
  for (std::string_view rest = list; !rest.empty();) {
    const std::string_view entry = next_entry(rest);
    if (entry.empty()) continue;
    ++count;
    if (entry != library) to.entry(entry);
    if (count == entries_before) to.entry(library);
  }
  return to.size();
}

}  // namespace towpath
