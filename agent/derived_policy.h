// A policy that differs from the one in force, made once for each of those and not for each question.
#pragma once

#include <memory>

#include "config/policy.h"

namespace towpath {

class DerivedPolicy {
 public:
  using Change = void (*)(Policy&);
  explicit DerivedPolicy(Change change) : change_(change) {}

  [[nodiscard]] const Policy& of(const std::shared_ptr<const Policy>& policy) {
    if (from_ != policy) {
      auto fresh = std::make_unique<Policy>(*policy);
      change_(*fresh);
      derived_ = std::move(fresh);
      from_ = policy;
    }
    return *derived_;
  }

 private:
  Change change_;
  std::shared_ptr<const Policy> from_;  // held: another one at its address would be taken for it
  std::unique_ptr<const Policy> derived_;
};

}  // namespace towpath
