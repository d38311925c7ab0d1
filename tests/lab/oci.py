"""Containers as Docker's and Kubernetes' defaults make them, from a root directory, by runc, without a daemon.

    result = oci.run(self, root, ["/towpath", "run", "--", "/client"], env={...})       # a proc.Result
    server = oci.start(self, root, ["/server"], ...)                                    # a proc.Process; ends with the test

The root is read-only, the user 65534, no_new_privs is set, the capabilities are Docker's (none of them is in effect for
that user), the seccomp profile refuses what Docker's refuses, and processes have numbers of their own. Network
and host name are the lab's.
"""

import functools
import itertools
import json
import os
import re
import subprocess

from lab import proc

USER = 65534
CAPABILITIES = ("AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP "
                "SETUID SYS_CHROOT").split()

# Docker's profile allows by name, and this is the rest: what needs a capability that a container does not have by default,
# and what is obsolete or known for holes. (docs.docker.com lists them under "Seccomp security profiles".)
_REFUSED = """
    _sysctl acct add_key afs_syscall bpf clock_adjtime clock_settime create_module delete_module fanotify_init finit_module
    fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy getpmsg init_module io_uring_enter io_uring_register
    io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind migrate_pages mount mount_setattr
    move_mount move_pages nfsservctl open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root
    process_madvise putpmsg query_module quotactl quotactl_fd reboot request_key security set_mempolicy
    set_mempolicy_home_node setdomainname sethostname setns settimeofday stime swapoff swapon sysfs syslog tuxcall umount
    umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old vserver
""".split()
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*
_AF_VSOCK = 40
_ENOSYS, _EPERM = 38, 1
_MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/scsi", "/sys/firmware")
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_numbers = itertools.count(1)


def run(case, root, words, timeout=30.0, stdin=b"", **how):
    """Runs to its end."""
    name, command, directory = _prepare(case, root, words, **how)
    return proc.run(name, command, directory, case._env(None), directory, timeout, stdin)


def start(case, root, words, **how):
    """Keeps running; its standard input stays open and empty."""
    name, command, directory = _prepare(case, root, words, **how)
    return case.use(proc.Process(name, command, directory, case._env(None), directory, stdin=subprocess.PIPE))


def _prepare(case, root, words, env=None, uid=USER, mounts=(), capabilities=CAPABILITIES, readonly=True, no_new_privs=True,
             confined=True, name="container"):
    """`mounts`: (source, place, read-only). `confined`: with the seccomp profile."""
    runc = case.need("runc")
    identity = f"towpath-lab-{os.getpid()}-{next(_numbers)}"
    bundle = os.path.join(case.directory, identity)
    os.mkdir(bundle, 0o755)
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", **{key: str(value) for key, value in (env or {}).items()}}
    effective = [f"CAP_{one}" for one in capabilities]
    kept = effective if uid == 0 else []
    linux = {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "mount")], "maskedPaths": _MASKED,
             "readonlyPaths": _READ_ONLY}
    if confined:
        linux["seccomp"] = profile()
    with open(os.path.join(bundle, "config.json"), "w") as file:
        json.dump({
            "ociVersion": "1.0.2",
            "process": {"terminal": False, "user": {"uid": uid, "gid": uid}, "args": [str(word) for word in words],
                        "env": [f"{key}={value}" for key, value in variables.items()], "cwd": "/",
                        "noNewPrivileges": no_new_privs,
                        "capabilities": {"bounding": effective, "effective": kept, "permitted": kept}},
            "root": {"path": root.path, "readonly": readonly},
            "mounts": [_mount("proc", "/proc", "proc", "nosuid", "noexec", "nodev"),
                       _mount("tmpfs", "/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
                       *(_mount("bind", place, source, "rbind", "ro" if fixed else "rw") for source, place, fixed in mounts)],
            "linux": linux}, file)
    # The state of the lab's containers is nobody else's business.
    tool = [runc, "--root", os.path.join(case.directory, "runc")]
    case.addCleanup(subprocess.run, [*tool, "delete", "--force", identity], capture_output=True, check=False)
    return name, [*tool, "run", "--bundle", bundle, identity], case.directory


@functools.cache
def profile():
    """Everything that the kernel's headers know but _REFUSED; what is newer than these headers is refused."""
    calls = set(re.findall(r"#define __NR_(\w+) ", subprocess.run(
        ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"], capture_output=True, text=True,
        check=True).stdout))
    assert len(calls) > 250
    allow = {"action": "SCMP_ACT_ALLOW"}
    return {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": _EPERM,
        "syscalls": [
            {"names": sorted(calls - {*_REFUSED, "clone", "clone3", "socket"}), **allow},
            {"names": ["clone"], **allow, "args": [
                {"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            # Its flags lie in memory, where no filter looks: libc goes back to clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
            {"names": ["socket"], **allow, "args": [{"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_NE"}]},
            *({"names": ["personality"], **allow, "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}
              for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)),
        ]}


def _mount(kind, place, source, *options):
    return {"destination": place, "type": kind, "source": source, "options": list(options)}
