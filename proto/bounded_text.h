// Text of at most N bytes inside the object. What does not fit is dropped and remembered as cut.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace towpath {

template <std::size_t N>
class BoundedText {
 public:
  void add(char c) noexcept {
    if (size_ == N) {
      cut_ = true;
    } else {
      text_[size_++] = c;
    }
  }
  void add(std::string_view text) noexcept {
    for (const char c : text) add(c);
  }
  void clear() noexcept {
    size_ = 0;
    cut_ = false;
  }

  [[nodiscard]] std::string_view view() const noexcept { return {text_.data(), size_}; }
  [[nodiscard]] std::size_t room() const noexcept { return N - size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] bool cut() const noexcept { return cut_; }

 private:
  std::array<char, N> text_;
  std::size_t size_ = 0;
  bool cut_ = false;
};

}  // namespace towpath
