/* docker_like [-l] [-u UID] PROGRAM ARGUMENT...: starts a program as Docker would by default: what its seccomp profile
 * refuses to containers without further capabilities is refused here, and of root's capabilities the fourteen of
 * Docker's list remain. A list of what is refused, where Docker's is one of what is allowed: calls that neither towpath
 * nor a test makes are left out. -l: nothing of that, but a user notification listener, which somebody above already
 * has. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>

static const int refused[] = {SYS_pidfd_getfd,
                              SYS_process_madvise,
                              SYS_kcmp,
                              SYS_unshare,
                              SYS_setns,
                              SYS_mount,
                              SYS_umount2,
                              SYS_pivot_root,
                              SYS_fsopen,
                              SYS_fsconfig,
                              SYS_fsmount,
                              SYS_fspick,
                              SYS_move_mount,
                              SYS_open_tree,
                              SYS_mount_setattr,
                              SYS_bpf,
                              SYS_perf_event_open,
                              SYS_userfaultfd,
                              SYS_keyctl,
                              SYS_add_key,
                              SYS_request_key,
                              SYS_open_by_handle_at,
                              SYS_fanotify_init,
                              SYS_lookup_dcookie,
                              SYS_quotactl,
                              SYS_syslog,
                              SYS_acct,
                              SYS_reboot,
                              SYS_swapon,
                              SYS_swapoff,
                              SYS_sethostname,
                              SYS_setdomainname,
                              SYS_settimeofday,
                              SYS_clock_settime,
                              SYS_init_module,
                              SYS_finit_module,
                              SYS_delete_module,
                              SYS_kexec_load,
                              SYS_vhangup,
                              SYS_get_mempolicy,
                              SYS_set_mempolicy,
                              SYS_mbind,
                              SYS_move_pages,
                              SYS_io_uring_setup,
                              SYS_io_uring_enter,
                              SYS_io_uring_register,
                              SYS_iopl,
                              SYS_ioperm};

enum { count = sizeof refused / sizeof *refused };
enum {
  new_namespaces =
      CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
};

static const int kept[] = {
    CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FSETID,  CAP_FOWNER,           CAP_MKNOD,      CAP_NET_RAW, CAP_SETGID,
    CAP_SETUID, CAP_SETFCAP,      CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_KILL,    CAP_AUDIT_WRITE};

static void die(const char* what) {
  fprintf(stderr, "docker_like: %s: %s\n", what, strerror(errno));
  exit(125);
}

/* Installed as root, without no_new_privs, as runc does. */
static void refuse_calls(void) {
  enum { failing = SECCOMP_RET_ERRNO | EPERM, number = offsetof(struct seccomp_data, nr) };
  const unsigned first_argument = offsetof(struct seccomp_data, args[0]);
  struct sock_filter code[2 * count + 24], *at = code;
#define STATEMENT(...) *at++ = (struct sock_filter)BPF_STMT(__VA_ARGS__)
#define JUMP(...) *at++ = (struct sock_filter)BPF_JUMP(__VA_ARGS__)
  STATEMENT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0); /* others pass: the profile has them, and we test us */
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  STATEMENT(BPF_LD | BPF_W | BPF_ABS, number);
  for (int i = 0; i < count; ++i) {
    JUMP(BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
    STATEMENT(BPF_RET | BPF_K, failing);
  }
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1); /* its flags lie in memory: libc falls back to clone */
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
  STATEMENT(BPF_LD | BPF_W | BPF_ABS, first_argument);
  JUMP(BPF_JMP | BPF_JSET | BPF_K, new_namespaces, 4, 0);
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3);
  STATEMENT(BPF_LD | BPF_W | BPF_ABS, first_argument);
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, 40 /* AF_VSOCK */, 0, 1);
  STATEMENT(BPF_RET | BPF_K, failing);
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {.len = (unsigned short)(at - code), .filter = code};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) die("seccomp");
}

static void drop_capabilities(void) {
  unsigned long long mask = 0;
  for (size_t i = 0; i < sizeof kept / sizeof *kept; ++i) mask |= 1ull << kept[i];
  for (int one = 0; prctl(PR_CAPBSET_READ, one, 0, 0, 0) >= 0; ++one)
    if (!(mask >> one & 1) && prctl(PR_CAPBSET_DROP, one, 0, 0, 0) != 0) die("bounding set");
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{.effective = (unsigned)mask, .permitted = (unsigned)mask},
                                           {.effective = (unsigned)(mask >> 32), .permitted = (unsigned)(mask >> 32)}};
  if (syscall(SYS_capset, &head, data) != 0) die("capset");
}

/* Kept open by whoever is started: a tree has room for one, and ours reports a call that nobody makes. */
static void take_listener(void) {
  struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                               BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
                               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
                               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  const long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  if (fd < 0 || fcntl((int)fd, F_SETFD, 0) != 0) die("listener");
}

int main(int argc, char** argv) {
  int next = 1;
  if (argc > 2 && strcmp(argv[1], "-l") == 0) {
    take_listener();
    execvp(argv[2], argv + 2);
    die(argv[2]);
  }
  unsigned uid = 0;
  if (argc > 3 && strcmp(argv[1], "-u") == 0) uid = (unsigned)atoi(argv[2]), next = 3;
  if (argc <= next) return fprintf(stderr, "usage: docker_like [-u UID] PROGRAM ARGUMENT...\n"), 125;
  refuse_calls();
  if (uid != 0 && (setgroups(0, NULL) != 0 || setgid(uid) != 0)) die("setgid");
  drop_capabilities();
  if (uid != 0 && setuid(uid) != 0) die("setuid");
  execvp(argv[next], argv + next);
  die(argv[next]);
}
