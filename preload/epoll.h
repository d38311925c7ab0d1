#pragma once
// epoll_ctl() as the program sees it.

#include <sys/epoll.h>

namespace towpath {

int epoll_ctl_hook(int epoll, int operation, int fd, epoll_event* event) noexcept;

}  // namespace towpath
