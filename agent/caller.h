// Who waits in a blocking connect(), or in another call that must not return before the verdict.
#pragma once

#include "base/endpoint.h"

namespace towpath {

class Caller {
 public:
  // The last word: 0, or the errno. The caller must not be used afterwards.
  virtual void verdict(int error) = 0;
  // Asks the program to connect to `to` by itself; Attempt::own_dial_ended() tells how it went. False: it cannot.
  virtual bool dial(const Endpoint& to) = 0;
  // Nobody will tell it a verdict: it was not there any more. It must not use the attempt afterwards.
  virtual void abandoned() = 0;
  // False: it was interrupted meanwhile. The attempt goes on as for a non-blocking caller.
  [[nodiscard]] virtual bool still_there() const = 0;

 protected:
  ~Caller() = default;
};

}  // namespace towpath
