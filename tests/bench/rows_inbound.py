"""The inbound side: a small C server (tests/bench/inbound_server.c) that is shown its clients, against a server that reads the
PROXY header itself, and against nginx and haproxy in front of the same server."""

import os
import shutil
import socket

from bed import STANDARD_PATH, Skip, program
from lab import proc
from lab.case import TOWPATH
from table import Figure, row

NGINX = shutil.which("nginx", path=STANDARD_PATH)
HAPROXY = shutil.which("haproxy", path=STANDARD_PATH)
PER_SECOND = "requests per second"


def _server(bed, *words, reverse=None):
    line = [program("inbound_server"), *words]
    if reverse:
        config = bed.file("values.yaml", "coderd:\n  reverseProxy:\n    trustedOrigins: [127.0.0.0/8]\n" + reverse)
        line = [TOWPATH, "run", "-c", config, "--", *line]
    server = bed.use(proc.Process("inbound_server", line, bed.directory, bed.environment))
    return int(server.wait_line(r"port=(\d+)").group(1))


def _load(bed, port, count, *options):
    return bed.run(program("inbound_load"), port, count, 50, *options)


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _listening(port):
    proc.wait_until(lambda: any(at[1] == port for at, _ in proc.listeners()), f"port {port}")
    return port


def _nginx(bed, server, keep):
    if not NGINX:
        raise Skip("nginx is not installed")
    port, place = _free_port(), os.path.join(bed.directory, f"nginx-{keep}")
    os.makedirs(place)
    kept = 'proxy_http_version 1.1; proxy_set_header Connection "";' if keep else "proxy_http_version 1.0;"
    config = bed.file("nginx.conf", f"""daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000; upstream one {{ server 127.0.0.1:{server}; {"keepalive 128; keepalive_requests 1000000;" if keep else ""} }}
server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://one; {kept}
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}
""")
    bed.use(proc.Process("nginx", [NGINX, "-p", place, "-c", config, "-e", f"{place}/error.log"], bed.directory))
    return _listening(port)


def _haproxy(bed, server, keep):
    if not HAPROXY:
        return None
    port = _free_port()
    config = bed.file("haproxy.cfg", f"""
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  option forwardfor
  {"http-reuse always" if keep else "option http-server-close"}
frontend in
  bind 127.0.0.1:{port} backlog 4096
  default_backend out
backend out
  server one 127.0.0.1:{server}
""")
    bed.use(proc.Process("haproxy", [HAPROXY, "-db", "-f", config], bed.directory))
    return _listening(port)


@row("inbound-proxy", [Figure("per_s", PER_SECOND + ", a connection each", "1/s", ">= 0.98")], rounds=7)
def _proxy(bed):
    own = _server(bed, "header")
    ours = _server(bed, reverse="    proxyProtocol: require\n")
    return {"floor": _load(bed, own, 20000, "proxy", "check"), "towpath": _load(bed, ours, 20000, "proxy", "check")}


@row("inbound-keep", [Figure("per_s", PER_SECOND + ", connections kept", "1/s", ">= 1.0")], rounds=5)
def _keep(bed):
    bare = _server(bed)
    ours = _server(bed, reverse="    headers: [X-Forwarded-For]\n")
    proxied = _haproxy(bed, bare, True)
    return {"nginx": _load(bed, _nginx(bed, bare, True), 100000, "keep"),
            "towpath": _load(bed, ours, 100000, "keep", "check"),
            "haproxy": proxied and _load(bed, proxied, 100000, "keep"), "direct": _load(bed, bare, 100000, "keep")}


@row("inbound-mixed", [Figure("per_s", PER_SECOND + ", connections kept, a client each", "1/s")], rounds=5)
def _mixed(bed):
    bare = _server(bed)
    ours = _server(bed, reverse="    headers: [X-Forwarded-For]\n")
    return {"nginx": _load(bed, _nginx(bed, bare, False), 20000, "keep", "many"),
            "towpath": _load(bed, ours, 20000, "keep", "many", "check")}


@row("inbound-close", [Figure("per_s", PER_SECOND + ", a connection and a client each", "1/s", ">= 1.0")], rounds=5)
def _close(bed):
    bare = _server(bed)
    ours = _server(bed, reverse="    headers: [X-Forwarded-For]\n")
    proxied = _haproxy(bed, bare, False)
    return {"nginx": _load(bed, _nginx(bed, bare, False), 20000, "many"),
            "towpath": _load(bed, ours, 20000, "many", "check"),
            "haproxy": proxied and _load(bed, proxied, 20000, "many"), "direct": _load(bed, bare, 20000, "many")}
