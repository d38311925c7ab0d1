/* Calls functions of its libc on command, so that a test is a conversation: a call, its result, a look at the proxy,
 * the next call. Standard input is one end of a SOCK_SEQPACKET pair; one packet is one command, and one answers it.
 *
 *   ID call NAME ARG...     by any function's name; ARG is a number, or hHEX: a buffer, which the answer shows again
 *   ID thread NAME ARG...   the same in a thread of its own; the answer comes when the call has ended
 *   ID vfork NAME ARG...    the same in a vfork child
 *   ID peek ADDRESS SIZE, ID poke ADDRESS HEX
 *   ID handle SIGNAL FLAGS  counts that signal from now on (threads of `thread` get them, the main thread does not)
 *   ID handled              how many there were
 *   ID fork                 the packet brings the descriptor on which the child listens from now on
 *   ID symbol NAME          its address
 *
 * Answer: ID RESULT ERRNO [HEX of each buffer]... The conversation's end ends the program. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls_by_name.h"

enum { packet = 65536, most = 8 };
typedef long (*function)(long, ...);

static int control;
static volatile sig_atomic_t handled;

struct job {
  long id, arg[most], result;
  int error, buffers;
  unsigned char* buffer[most];
  size_t size[most];
  function what;
};

static void count(int signal) { (void)signal, ++handled; }

static void answer(const struct job* job) {
  char *text = malloc(2 * packet), *at = text + sprintf(text, "%ld %ld %d", job->id, job->result, job->error);
  for (int i = 0; i < job->buffers; ++i) {
    *at++ = ' ';
    *at++ = 'h';
    for (size_t k = 0; k < job->size[i]; ++k) at += sprintf(at, "%02x", job->buffer[i][k]);
    free(job->buffer[i]);
  }
  /* Not by the libc's send: the conversation itself is none of a preloaded library's business. */
  struct iovec data = {text, (size_t)(at - text)};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  ssize_t sent;
  do sent = sendmsg(control, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno == ENOSYS)
    sent = write(control, text, data.iov_len); /* a supervisor has died, and its calls with it */
  free(text);
}

static void perform(struct job* job) {
  const long* a = job->arg;
  errno = 0;
  job->result = job->what(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
  job->error = errno;
}

static void* in_thread(void* argument) {
  struct job* job = argument;
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
  perform(job);
  answer(job);
  free(job);
  return NULL;
}

static size_t from_hex(const char* hex, unsigned char* to) {
  size_t size = 0;
  for (unsigned byte; sscanf(hex + 2 * size, "%2x", &byte) == 1; ++size) to[size] = (unsigned char)byte;
  return size;
}

static void parse(struct job* job, char** rest) {
  const char* name = strtok_r(NULL, " ", rest);
  *(void**)&job->what = by_name(name);
  if (job->what == NULL) {
    fprintf(stderr, "calls: no function %s\n", name);
    exit(2);
  }
  char* word;
  for (int i = 0; i < most && (word = strtok_r(NULL, " ", rest)) != NULL; ++i) {
    if (word[0] != 'h') {
      job->arg[i] = strtol(word, NULL, 10);
      continue;
    }
    const size_t size = strlen(word) / 2;
    unsigned char* buffer = malloc(size + 1);
    job->size[job->buffers] = from_hex(word + 1, buffer);
    job->buffer[job->buffers++] = buffer;
    job->arg[i] = (long)buffer;
  }
}

static void obey(char* line, int passed) {
  char* rest;
  struct job* job = calloc(1, sizeof *job);
  job->id = strtol(strtok_r(line, " ", &rest), NULL, 10);
  const char* command = strtok_r(NULL, " ", &rest);
  if (strcmp(command, "peek") == 0) {
    const unsigned char* at = (unsigned char*)strtol(strtok_r(NULL, " ", &rest), NULL, 10);
    job->size[0] = strtoul(strtok_r(NULL, " ", &rest), NULL, 10);
    job->buffer[job->buffers++] = memcpy(malloc(job->size[0] + 1), at, job->size[0]);
  } else if (strcmp(command, "poke") == 0) {
    unsigned char* at = (unsigned char*)strtol(strtok_r(NULL, " ", &rest), NULL, 10);
    job->result = (long)from_hex(strtok_r(NULL, " ", &rest), at);
  } else if (strcmp(command, "handle") == 0) {
    const int signal = atoi(strtok_r(NULL, " ", &rest));
    struct sigaction action = {.sa_handler = count, .sa_flags = atoi(strtok_r(NULL, " ", &rest))};
    job->result = sigaction(signal, &action, NULL);
  } else if (strcmp(command, "handled") == 0) {
    job->result = handled;
  } else if (strcmp(command, "symbol") == 0) {
    job->result = (long)by_name(strtok_r(NULL, " ", &rest));
  } else if (strcmp(command, "fork") == 0) {
    job->result = fork();
    if (job->result == 0) {
      close(control);
      control = passed;
      free(job);
      return;
    }
    close(passed);
  } else if (strcmp(command, "vfork") == 0) {
    parse(job, &rest);
    const pid_t child = vfork();
    if (child == 0) {
      perform(job);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  } else if (strcmp(command, "thread") == 0) {
    parse(job, &rest);
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread, job);
    pthread_detach(thread);
    return;
  } else {
    parse(job, &rest);
    perform(job);
  }
  answer(job);
  free(job);
}

int main(void) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  signal(SIGPIPE, SIG_IGN);
  control = fcntl(0, F_DUPFD_CLOEXEC, 600);
  for (;;) {
    static char line[packet + 1];
    struct iovec data = {line, packet};
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    ssize_t size = recvmsg(control, &message, 0);
    if (size < 0 && errno == ENOSYS) size = read(control, line, packet), message.msg_controllen = 0;
    if (size <= 0) return 0;
    line[size] = '\0';
    int passed = -1;
    const struct cmsghdr* head = CMSG_FIRSTHDR(&message);
    if (head != NULL) memcpy(&passed, CMSG_DATA(head), sizeof passed);
    obey(line, passed);
  }
}
