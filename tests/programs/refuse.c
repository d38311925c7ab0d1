/* refuse WHAT PROGRAM ARGUMENT...: starts a program under a profile that refuses one of the mechanisms that towpath's
 * supervisor is made of.
 *
 *   seccomp   seccomp(2) with EPERM      killed   seccomp(2) kills the caller
 *   listener  seccomp(2) with a listener: EINVAL, as in gVisor and before Linux 5.0
 *   receive   the ioctl that receives a stopped call      inject   the one that puts a descriptor into the program
 *   memory    process_vm_readv
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

enum { denied = SECCOMP_RET_ERRNO | EPERM };

/* A call of that number: any (`second` is 0), or one whose second argument has that bit or, `exactly`, is that. */
static const struct {
  const char* what;
  unsigned call, second, exactly, verdict;
} kinds[] = {{"seccomp", SYS_seccomp, 0, 0, denied},
             {"killed", SYS_seccomp, 0, 0, SECCOMP_RET_KILL_PROCESS},
             {"listener", SYS_seccomp, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0, SECCOMP_RET_ERRNO | EINVAL},
             {"receive", SYS_ioctl, (unsigned)SECCOMP_IOCTL_NOTIF_RECV, 1, denied},
             {"inject", SYS_ioctl, (unsigned)SECCOMP_IOCTL_NOTIF_ADDFD, 1, denied},
             {"memory", SYS_process_vm_readv, 0, 0, denied}};

int main(int argc, char** argv) {
  size_t kind = 0;
  while (argc > 2 && kind < sizeof kinds / sizeof *kinds && strcmp(argv[1], kinds[kind].what) != 0) ++kind;
  if (argc <= 2 || kind == sizeof kinds / sizeof *kinds) return fprintf(stderr, "usage: refuse WHAT PROGRAM...\n"), 125;
  const unsigned short test = kinds[kind].exactly ? BPF_JEQ : BPF_JSET;
  struct sock_filter any[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kinds[kind].call, 0, 1),
                              BPF_STMT(BPF_RET | BPF_K, kinds[kind].verdict),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_filter some[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                               BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kinds[kind].call, 0, 3),
                               BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                               BPF_JUMP(BPF_JMP | test | BPF_K, kinds[kind].second, 0, 1),
                               BPF_STMT(BPF_RET | BPF_K, kinds[kind].verdict),
                               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {.len = sizeof some / sizeof *some, .filter = some};
  if (kinds[kind].second == 0) program.len = sizeof any / sizeof *any, program.filter = any;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    fprintf(stderr, "refuse: %s\n", strerror(errno));
    return 125;
  }
  execvp(argv[2], argv + 2);
  fprintf(stderr, "refuse: %s: %s\n", argv[2], strerror(errno));
  return 125;
}
