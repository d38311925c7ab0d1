"""A client that tells what its socket said: `client(mode, host, port, ...)` is the command of a program.

It prints `errno=`, then `peer=`, and everything that it read as `read=` (a Python literal); `end=` is how the stream ended.
Further words: `send=TEXT` after the connect, `shut` its writing side then, `want=N` reads only N bytes, `bind=ADDRESS`,
`family=6`, `v6only`, `times=N` as many connections one after another, `hold` waits for a line on standard input before it reads.
"""

MODES = ("blocking", "epoll", "poll", "select")

_SCRIPT = r"""
import errno, select, socket, sys

mode, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
more = dict((word + "=").split("=")[:2] for word in sys.argv[4:])

def wait(connection):
    if mode == "epoll":
        watch = select.epoll()
        watch.register(connection, select.EPOLLOUT)
        return watch.poll(30)
    if mode == "poll":
        watch = select.poll()
        watch.register(connection, select.POLLOUT)
        return watch.poll(30000)
    return select.select([], [connection], [], 30)[1]

def once():
    connection = socket.socket(socket.AF_INET6 if "family" in more else socket.AF_INET)
    if "v6only" in more:
        connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if "bind" in more:
        connection.bind((more["bind"].replace("_", ":"), 0))
    connection.setblocking(mode == "blocking")
    error = connection.connect_ex((host, port))
    if mode != "blocking" and error == errno.EINPROGRESS:
        if not wait(connection):
            error = "silence"
        else:
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    print("errno=" + errno.errorcode.get(error, str(error)), flush=True)
    if error:
        return
    connection.setblocking(True)
    connection.settimeout(60)
    try:
        print("peer=%s:%d" % connection.getpeername()[:2], flush=True)
    except OSError as failure:  # reset already
        print("peer=" + errno.errorcode[failure.errno], flush=True)
    if "hold" in more:
        sys.stdin.readline()
    if "send" in more:
        connection.sendall(more["send"].encode())
    if "shut" in more:
        connection.shutdown(socket.SHUT_WR)
    data, end = b"", "eof"
    try:
        while "want" not in more or len(data) < int(more["want"]):
            part = connection.recv(65536)
            if not part:
                break
            data += part
        else:
            end = "enough"
    except OSError as failure:
        end = errno.errorcode.get(failure.errno, str(failure))
    print("read=%r" % data)
    print("end=" + end, flush=True)
    if "late" in more:
        connection.sendall(more["late"].encode())
        connection.shutdown(socket.SHUT_WR)

for _ in range(int(more.get("times", 1))):
    once()
"""


def client(mode, host, port, *more):
    return ["/usr/bin/python3", "-c", _SCRIPT, mode, host, str(port), *more]
