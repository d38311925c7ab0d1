// One seccomp listener: the calls that a supervised tree makes and that wait for us (seccomp_unotify(2)).
//
// Each notice must be answered exactly once, by one of the functions below. A program that was killed or interrupted in
// the meantime makes that fail, which is normal. Notices that were taken and not answered stand in the page, so that
// the agent after us can answer them: the kernel shows none twice.
#pragma once

#include <cstdint>
#include <vector>

#include <linux/seccomp.h>
#include <sys/types.h>

#include "agent/page_writer.h"
#include "agent/socket_watch.h"
#include "base/unique_fd.h"
#include "trap/filter.h"

namespace towpath {

class Listener;

struct Notice {
  Listener* from = nullptr;
  std::uint64_t id = 0;
  pid_t tid = 0;  // of the thread that made the call; 0: in a PID namespace that we cannot see
  seccomp_data data{};

  [[nodiscard]] int descriptor(unsigned index) const noexcept { return static_cast<int>(data.args[index]); }
  [[nodiscard]] bool valid() const noexcept;                           // is the caller still waiting?
  void fail(int error) const noexcept { (void)deliver_error(error); }  // the call returns -1 with this errno
  void result(std::int64_t value) const noexcept { (void)deliver(value); }
  // False: nobody waits any more. A signal has interrupted the call, and the kernel may make it once more.
  [[nodiscard]] bool deliver(std::int64_t value) const noexcept;
  [[nodiscard]] bool deliver_error(int error) const noexcept;
  void go_on() const noexcept;  // the kernel performs the call, with what the program's memory holds by then
  void done(int error) const noexcept { error == 0 ? result(0) : fail(error); }
};

class Listener final : public SocketWatch::Watched {
 public:
  class Host {
   public:
    virtual void on_notice(const Notice& notice) = 0;
    virtual void on_tree_ended(Listener& listener) = 0;  // may destroy it

   protected:
    ~Host() = default;
  };

  Listener(Host& host, SocketWatch& sockets, PageWriter& page, UniqueFd fd, std::uint32_t key, trap::Flavour flavour);
  ~Listener();
  [[nodiscard]] bool start();

  // Descriptors of ours become the program's: `fd` at a number that the kernel chooses, which is the call's result.
  // Returns it, or -errno; then the notice is not answered yet (but may be gone: -ENOENT).
  [[nodiscard]] int inject(const Notice& notice, int fd, bool close_on_exec) noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] std::uint32_t key() const noexcept { return key_; }
  [[nodiscard]] const trap::Flavour& flavour() const noexcept { return flavour_; }

  void on_socket_ready(std::uint32_t events) override;

 private:
  friend struct Notice;
  bool send(std::uint64_t id, std::int64_t value, int error, std::uint32_t flags) noexcept;
  bool receive(Notice& out) noexcept;
  // What an agent before us took and did not answer.
  void answer_orphans() noexcept;

  Host& host_;
  SocketWatch& sockets_;
  PageWriter& page_;
  UniqueFd fd_;
  std::uint32_t key_;
  trap::Flavour flavour_;
  bool watched_ = false;
};

}  // namespace towpath
