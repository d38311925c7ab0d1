// Processes of the doctor's own: they end by themselves, with their parent, or when their owner is done with them.
#pragma once

#include <sys/types.h>

namespace towpath::doctor {

inline constexpr unsigned patience_seconds = 10;

class Child {
 public:
  // In the child `body()` runs, and then the process ends. pid() is -1 with errno set when there is none.
  template <class Body>
  explicit Child(Body&& body) : pid_(begin()) {
    if (pid_ != 0) return;
    body();
    end();
  }
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  static pid_t begin() noexcept;
  [[noreturn]] static void end() noexcept;
  pid_t pid_;
};

// This process goes on as that user, without groups; what other processes of that user may look into stays so, as after
// an exec. Errno, or 0.
[[nodiscard]] int become(uid_t user) noexcept;

}  // namespace towpath::doctor
