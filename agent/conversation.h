// One asker's connection, seen from the agent. An ask comes, an answer goes, the connection ends.
//
//   silent      accepted; nothing valid has come yet. It may be stopped (job control, a debugger, a CPU quota): time
//               says nothing against it. The oldest one goes when there are too many.
//   asked       the ask is with somebody (an attempt, a watch) that will answer or drop it.
//   over        answered, or the asker is gone; freed by the control socket.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

#include "agent/caller.h"
#include "agent/socket_watch.h"
#include "base/unique_fd.h"
#include "proto/wire.h"

namespace towpath {

class Conversation;

// Who asks, as the kernel knows it.
struct Asker {
  pid_t pid = 0;
  uid_t uid = 0;
  [[nodiscard]] std::string program() const;  // /proc/PID/comm, "?" when it cannot be read
};

// Whoever holds a conversation that has been asked.
class Answerer {
 public:
  virtual void on_message(Conversation& talk, const wire::Message& message) = 0;  // dialled, detach
  virtual void on_asker_gone(Conversation& talk) = 0;

 protected:
  ~Answerer() = default;
};

class Conversation final : SocketWatch::Watched, public Caller {
 public:
  class Host {
   public:
    virtual SocketWatch& sockets() = 0;
    virtual void on_ask(Conversation& talk, const wire::Message& ask, std::vector<UniqueFd> descriptors) = 0;
    // Nothing has been asked yet.
    virtual void on_silent(Conversation& talk) = 0;
    virtual void on_over(Conversation& talk) = 0;
    // There was no room for the descriptors that came with an ask.
    virtual void on_full() = 0;
    // Has the asker the right to ask that?
    [[nodiscard]] virtual bool may_ask(const Asker& asker, const wire::Message& ask) const = 0;
    // Stands in every reply.
    [[nodiscard]] virtual std::uint64_t page_id() const = 0;

   protected:
    ~Host() = default;
  };

  Conversation(UniqueFd fd, Host& host);
  // Looks for the ask that usually is there already.
  void start();

  [[nodiscard]] const Asker& asker() const noexcept { return asker_; }
  void set_answerer(Answerer* answerer) noexcept { answerer_ = answerer; }
  // Sends without ending.
  void say(wire::Reply reply, int descriptor = -1);
  // The last word: sends and ends. The conversation must not be used afterwards.
  void answer(const wire::Reply& reply, int descriptor = -1);
  void answer(wire::Answer kind, int number = 0);
  void end();

  void verdict(int error) override { answer(wire::Answer::done, error); }
  bool dial(const Endpoint& to) override;
  void abandoned() override {}
  // An asker that goes says so, or its connection ends: whoever holds the ask is told.
  [[nodiscard]] bool still_there() const override { return true; }

 private:
  void on_socket_ready(std::uint32_t) override { read(); }
  void read();
  void wait_for_more();
  // The asker has gone, or broken off in a way that only a bad one does: whoever holds the ask is told.
  void lose();

  UniqueFd fd_;
  Host& host_;
  Asker asker_;
  Answerer* answerer_ = nullptr;
  bool asked_ = false;
  bool over_ = false;
  bool watched_ = false;
};

}  // namespace towpath
