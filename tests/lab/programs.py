"""Clients in many languages that fetch one URL, for tests that want "every kind of program".

`PROGRAMS` (libc's hooks reach them) and `UNHOOKED` (only a supervisor does) map a name to a function (case, host, port, path) -> command. The command prints the origin's answer and
ends with 0, or with something else when it cannot. None of them is told about any proxy.
"""

import os
import shutil
import subprocess
import tempfile

from lab.case import STANDARD_PATH, program

_REQUEST = "GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n"

_ASYNCIO = """
import asyncio
async def main():
    reader, writer = await asyncio.open_connection("{host}", {port})
    writer.write(b"%s")
    print((await reader.read()).decode())
asyncio.run(main())
""" % _REQUEST

_URLLIB = 'import urllib.request; print(urllib.request.urlopen("http://{host}:{port}{path}").read().decode())'

_NODE_HTTP = """
require("http").get("http://{host}:{port}{path}", answer => answer.pipe(process.stdout))
  .on("error", error => {{ console.error(error); process.exit(1) }})
"""

_NODE_FETCH = """
fetch("http://{host}:{port}{path}").then(answer => answer.text()).then(text => console.log(text))
  .catch(error => {{ console.error(error); process.exit(1) }})
"""

_NODE_NET = """
const socket = require("net").connect({port}, "{host}", () => socket.write("%s"))
socket.on("error", error => {{ console.error(error); process.exit(1) }}).pipe(process.stdout)
""" % _REQUEST

_PERL = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(PeerHost => "{host}", PeerPort => {port}, Proto => "tcp") or die "connect: $@";
print $socket "%s";
print while <$socket>;
""" % _REQUEST

_JAVA = """
import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;

public class Fetch {
  public static void main(String[] arguments) throws Exception {
    String host = arguments[1];
    int port = Integer.parseInt(arguments[2]);
    byte[] request = ("GET " + arguments[3] + " HTTP/1.0\\r\\nHost: " + host + "\\r\\n\\r\\n").getBytes("US-ASCII");
    if (arguments[0].equals("blocking")) {
      try (Socket socket = new Socket(host, port)) {
        socket.getOutputStream().write(request);
        socket.getInputStream().transferTo(System.out);
      }
    } else {
      nio(new InetSocketAddress(host, port), ByteBuffer.wrap(request));
    }
    System.out.flush();
  }

  static void nio(InetSocketAddress address, ByteBuffer request) throws IOException {
    if (address.isUnresolved()) throw new UnknownHostException(address.getHostString());
    try (Selector selector = Selector.open(); SocketChannel channel = SocketChannel.open()) {
      channel.configureBlocking(false);
      channel.register(selector, channel.connect(address) ? SelectionKey.OP_WRITE : SelectionKey.OP_CONNECT);
      ByteBuffer answer = ByteBuffer.allocate(65536);
      for (;;) {
        selector.select();
        for (SelectionKey key : selector.selectedKeys()) {
          if (key.isConnectable() && channel.finishConnect()) {
            key.interestOps(SelectionKey.OP_WRITE);
          } else if (key.isWritable()) {
            channel.write(request);
            if (!request.hasRemaining()) key.interestOps(SelectionKey.OP_READ);
          } else if (key.isReadable() && channel.read(answer) == -1) {
            System.out.print(StandardCharsets.US_ASCII.decode(answer.flip()));
            return;
          }
        }
        selector.selectedKeys().clear();
      }
    }
  }
}
"""


def _curl(case, host, port, path):
    return [case.need("curl"), "-sS", "--fail", "--max-time", "15", f"http://{host}:{port}{path}"]


def _wget(case, host, port, path):
    return [case.need("wget"), "-q", "-O", "-", "--tries=1", "--timeout=15", f"http://{host}:{port}{path}"]


def _git(case, host, port, path):
    place = tempfile.mkdtemp(prefix="clone-", dir=case.directory)
    git = case.need("git")
    # Prints what was cloned, so that its answer looks like everybody's.
    return ["sh", "-c", f'"$0" -c core.askPass=true clone -q "$1" "$2" && cat "$2/path"', git,
            f"http://{host}:{port}/repository.git", f"{place}/clone"]


def _script(program, flag, text):
    def command(case, host, port, path):
        return [case.need(program), flag, text.format(host=host, port=port, path=path)]
    return command


def _java(mode):
    def command(case, host, port, path):
        case.need("javac")
        # The launcher for source files would compile again for every run.
        return [case.need("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", "-cp", _java_classes(case),
                "Fetch", mode, host, str(port), path]
    return command


PROGRAMS = {
    "curl": _curl,
    "wget": _wget,
    "git clone": _git,
    "python urllib": _script("/usr/bin/python3", "-c", _URLLIB),
    "python asyncio": _script("/usr/bin/python3", "-c", _ASYNCIO),
    "node http.get": _script("node", "-e", _NODE_HTTP),
    "node fetch": _script("node", "-e", _NODE_FETCH),
    "node net.connect": _script("node", "-e", _NODE_NET),
    "java blocking": _java("blocking"),
    "java nio": _java("nio"),
    "perl IO::Socket": _script("perl", "-e", _PERL),
}


def _go(kind, *before):
    return lambda case, host, port, path: [*before, program(f"{kind}/goclient"), "get", f"http://{host}:{port}{path}"]


def _sockets(libc, how):
    return lambda case, host, port, path: [program(f"{libc}/sockets"), "get", how, host, str(port), path]


def _busybox(case, host, port, path):
    return [case.need("busybox"), "wget", "-q", "-O", "-", f"http://{host}:{port}{path}"]


HOWS = ("blocking", "poll", "select", "epoll", "epoll-first", "fastopen")
UNHOOKED = {
    "go static": _go("go-static"),
    "go cgo": _go("go-cgo"),
    "go cgo by libc": _go("go-cgo", "env", "GODEBUG=netdns=cgo"),
    **{f"glibc {how}": _sockets("static", how) for how in HOWS},
    **{f"musl {how}": _sockets("musl", how) for how in HOWS},
    "rust static-pie": lambda case, host, port, path: [program("rust/rust_get"), f"{host}:{port}", path],
    "busybox wget": _busybox,
}


def path_of(name):
    """The path that this program asks the origin for, and that its answer begins with."""
    return "/" + "-".join(name.lower().replace(":", "").split())


def make_repository(directory):
    """A bare repository below `directory` for dumb http: `git clone http://.../repository.git`."""
    tree, bare = os.path.join(directory, "tree"), os.path.join(directory, "repository.git")
    os.makedirs(tree)
    with open(os.path.join(tree, "path"), "w") as file:
        file.write(f"path={path_of('git clone')}\n")
    environment = {"PATH": STANDARD_PATH, "HOME": directory, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    identity = ["-c", "user.name=lab", "-c", "user.email=lab@example.com", "-c", "init.defaultBranch=main"]
    for arguments in (["-C", tree, *identity, "init", "-q"], ["-C", tree, "add", "path"],
                      ["-C", tree, *identity, "commit", "-q", "-m", "lab"],
                      ["clone", "-q", "--bare", tree, bare], ["-C", bare, "update-server-info"]):
        subprocess.run(["git", *arguments], check=True, env=environment)


def _java_classes(case):
    place = os.path.join(type(case).class_directory, "java")
    if not os.path.isdir(place):
        os.mkdir(place)
        with open(os.path.join(place, "Fetch.java"), "w") as file:
            file.write(_JAVA)
        subprocess.run([shutil.which("javac"), "-d", place, os.path.join(place, "Fetch.java")], check=True)
    return place
