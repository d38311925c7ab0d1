// A descriptor that is owned. Plain int everywhere else means: borrowed.
#pragma once

#include <utility>

#include <unistd.h>

namespace towpath {

class UniqueFd {
 public:
  constexpr UniqueFd() noexcept = default;
  explicit UniqueFd(int adopted) noexcept : fd_(adopted) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int adopted = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = adopted;
  }

 private:
  int fd_ = -1;
};

}  // namespace towpath
