// What floor_client and plain_client have in common: everything but how a connection is made.
#pragma once

#include <stdint.h>

struct target {
  const char* name;
  uint16_t port;
};

struct dialling {
  int fd;
  int step;  // the client's own
};

// Each client has its own; `words` are the arguments before the mode. Returns how many it took.
int prepare(int count, char** words, struct target target);

// Before every blocking connect of the mode "lookup".
void look_up(void);

// A socket whose peer is the target: what is received is what the target sent. -1 and errno when there is none.
int dial(void);

// The same without blocking: events to wait for, 0 when the tunnel stands, -1 and errno when it does not.
int dial_begin(struct dialling* d);
int dial_go_on(struct dialling* d);
