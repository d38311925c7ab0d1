"""A network namespace of the test's own, in which a leak is a number.

`enter()` moves the running script into fresh network and mount namespaces that hold `lo` and one end of a veth pair
as default route for IPv4 and IPv6. The other end lies in a second namespace where nobody answers: nothing can leave
the machine. The pair neither does ARP nor neighbour discovery, so the kernel sends nothing of its own and the first
packet of a leak is counted at once. /etc/resolv.conf, /etc/hosts and /etc/nsswitch.conf are private copies.
"""

import ctypes
import os
import re
import socket
import subprocess
import sys
import tempfile

VETH = "uplink"
DEFAULT_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
DEFAULT_RESOLV_CONF = "nameserver 127.0.0.1\n"

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)
_far_side = None
_sniffer = None
_files = {}


def inside():
    return _far_side is not None


def enter(directory=None):
    """Without root, or where namespaces are forbidden: one line and exit status 77 (skipped)."""
    global _far_side, _sniffer
    if os.geteuid() != 0:
        _skip("needs root for a network namespace of its own")
    try:
        _call("unshare", _CLONE_NEWNET)
        _far_side = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _sniffer = _open_sniffer()
        _call("unshare", _CLONE_NEWNET | _CLONE_NEWNS)
        _call("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    except OSError as error:
        _skip(f"cannot create namespaces: {error}")
    _network()
    directory = directory or tempfile.mkdtemp(prefix="towpath-etc-")
    os.chmod(directory, 0o755)
    _cover(directory, "/etc/hosts", DEFAULT_HOSTS)
    _cover(directory, "/etc/resolv.conf", DEFAULT_RESOLV_CONF)
    # Name service modules and nscd are reached by unix sockets, which no network namespace stops.
    _cover(directory, "/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
    _call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", ctypes.c_ulong(0), None)  # squid leaves segments there
    for place in ("/run/nscd", "/run/systemd/resolve", "/run/avahi-daemon", "/run/dbus"):
        if os.path.isdir(place):
            _hide(place, directory)
    return directory


def hosts(text=""):
    """The lab's /etc/hosts: localhost and `text`."""
    _rewrite("/etc/hosts", DEFAULT_HOSTS + text)


def resolv_conf(text=DEFAULT_RESOLV_CONF):
    _rewrite("/etc/resolv.conf", text)


def add_address(address):
    """Makes an IPv4 address (or range) of the documentation ranges lead here, so that a server can listen there. It is no
    interface's, so that towpath takes it for somebody else's; see own_address()."""
    subprocess.run(["ip", "route", "replace", "local", address, "dev", "lo"], check=True)


def drop_address(address):
    subprocess.run(["ip", "route", "del", "local", address, "dev", "lo"], check=True)


def own_address(address, device=VETH):
    """An address of this machine's own, as "192.0.2.7/32"."""
    more = ["nodad"] if ":" in address else []
    subprocess.run(["ip", "address", "replace", address, "dev", device, *more], check=True)


def disown_address(address, device=VETH):
    subprocess.run(["ip", "address", "del", address, "dev", device], check=True)


def veth_packets():
    """How many packets tried to leave the machine since enter()."""
    with open("/proc/net/dev") as table:  # /sys/class/net shows the namespace in which /sys was mounted
        for line in table:
            name, _, numbers = line.partition(":")
            if name.strip() == VETH:
                return int(numbers.split()[9])
    raise AssertionError(f"{VETH} is gone")


def leaks():
    """What the packets were that tried to leave since the last call: lines for a failure's output."""
    seen = []
    while _sniffer is not None:
        try:
            seen.append(_describe(_sniffer.recv(65535)))
        except BlockingIOError:
            break
    return seen


def processes():
    """Every process in this network namespace but this one."""
    mine = os.stat("/proc/self/ns/net").st_ino
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(entry) != os.getpid() and os.stat(f"/proc/{entry}/ns/net").st_ino == mine:
                found.append(int(entry))
        except OSError:
            continue
    return found


def agents(*names):
    """The towpath agents among processes(), also such as no test started by itself."""
    names = names or ("towpath-agent",)
    found = []
    for pid in processes():
        try:
            with open(f"/proc/{pid}/stat") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name in names and rest.split()[0] not in "ZX":
            found.append(pid)
    return found


def guards_and_agents():
    """In the order in which they can be killed for good: a guard would start another agent."""
    return agents("towpath-guard") + agents()


def _network():
    far = f"/proc/{os.getpid()}/fd/{_far_side}"
    os.set_inheritable(_far_side, True)
    commands = f"""
        link set lo up
        link add {VETH} arp off type veth peer name far arp off netns {far}
        link set {VETH} addrgenmode none up
        address add 10.77.0.2/24 dev {VETH}
        route add default via 10.77.0.1
        -6 address add 2001:db8:77::2/64 dev {VETH} nodad
        -6 route add default via 2001:db8:77::1 dev {VETH}
    """
    for command in filter(None, map(str.split, commands.splitlines())):
        subprocess.run(["ip", *command], check=True)
    subprocess.run(["nsenter", f"--net={far}", "ip", "link", "set", "far", "addrgenmode", "none", "up"], check=True)
    os.set_inheritable(_far_side, False)


def _open_sniffer():
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
    except OSError:
        return None  # only descriptions are lost, the counter remains


def _describe(frame):
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        family, protocol, header = socket.AF_INET, packet[9], (packet[0] & 15) * 4
        destination = packet[16:20]
    elif kind == b"\x86\xdd":
        family, protocol, header, destination = socket.AF_INET6, packet[6], 40, packet[24:40]
    else:
        return f"ethertype {kind.hex()}, {len(frame)} bytes"
    name = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}.get(protocol, f"protocol {protocol}")
    port = int.from_bytes(packet[header + 2:header + 4], "big") if name in ("tcp", "udp") else "-"
    words = " ".join(re.findall(r"[\w.-]{3,}", packet[header + 8:].decode("ascii", "replace")))
    return f"{name} to {socket.inet_ntop(family, destination)} port {port} {words}".rstrip()


def _cover(directory, path, text):
    source = os.path.join(directory, os.path.basename(path))
    with open(source, "w") as file:
        file.write(text)
    if not os.path.exists(path):
        if path == "/etc/nsswitch.conf":
            return
        _skip(f"{path} does not exist and cannot be covered")
    _call("mount", source.encode(), path.encode(), None, ctypes.c_ulong(_MS_BIND), None)
    _files[path] = source


def _hide(place, directory):
    empty = os.path.join(directory, "empty")
    os.makedirs(empty, exist_ok=True)
    _call("mount", empty.encode(), place.encode(), None, ctypes.c_ulong(_MS_BIND), None)


def _rewrite(path, text):
    # Never outside: there the file would be the machine's own.
    assert inside() and path in _files, "enter() first"
    with open(_files[path], "w") as file:
        file.write(text)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(77)
