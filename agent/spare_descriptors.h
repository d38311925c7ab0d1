// Two descriptors that are kept for what must not fail when the process has no other: a registration that is lost makes
// its program sleep for ever, and a look at who still holds a socket is what makes room again.
#pragma once

namespace towpath {

// Called once, while there is room.
void keep_spare_descriptors() noexcept;

// While one lives, two descriptors are free; what was opened meanwhile is closed before it ends. Not to be nested.
class SpareDescriptors {
 public:
  SpareDescriptors() noexcept;
  ~SpareDescriptors();
  SpareDescriptors(const SpareDescriptors&) = delete;
  SpareDescriptors& operator=(const SpareDescriptors&) = delete;
};

}  // namespace towpath
