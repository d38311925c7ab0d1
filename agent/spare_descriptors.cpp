#include "agent/spare_descriptors.h"

#include <sys/eventfd.h>

#include "base/unique_fd.h"

namespace towpath {

namespace {

UniqueFd spare[2];

}  // namespace

void keep_spare_descriptors() noexcept {
  for (UniqueFd& each : spare)
    if (!each) each.reset(eventfd(0, EFD_CLOEXEC));
}

SpareDescriptors::SpareDescriptors() noexcept {
  for (UniqueFd& each : spare) each.reset();
}

SpareDescriptors::~SpareDescriptors() { keep_spare_descriptors(); }

}  // namespace towpath
