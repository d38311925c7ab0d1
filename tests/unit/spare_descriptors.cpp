// No descriptor is free: what must not fail all the same.
#include "agent/spare_descriptors.h"

#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/deferred.h"
#include "agent/holders.h"
#include "base/unique_fd.h"

using namespace towpath;

namespace {

// Takes every descriptor that this process may have.
class Full {
 public:
  Full() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{256, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    for (int fd; (fd = dup(0)) >= 0;) taken_.emplace_back(fd);
  }
  ~Full() {
    taken_.clear();
    setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_{};
  std::vector<UniqueFd> taken_;
};

}  // namespace

TEST_CASE("spare descriptors: a look at holders, and registrations, need no other") {
  const UniqueFd set(epoll_create1(EPOLL_CLOEXEC)), socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  DeferredRegistrations deferred(-1);
  keep_spare_descriptors();
  for (int turn = 0; turn < 3; ++turn) {
    const Full full;
    REQUIRE(dup(0) == -1);
    CHECK_FALSE(held_elsewhere({getpid()}, socket.get(), getpid(), -1));
    CHECK(is_epoll_set(set.get()));
    CHECK_FALSE(is_epoll_set(socket.get()));
    CHECK(dup(0) == -1);  // both are taken again
  }
}
