"""Port 80 through a proxy that tunnels only 443: the relay in absolute form. The floor is curl with http_proxy, which
speaks to the proxy in absolute form by itself. nginx is the origin; the fast proxy is haproxy."""

import os
import shutil
import statistics

from bed import NAME, need
from lab import proc, squid
from lab.case import STANDARD_PATH
from table import Figure, row

MEGABYTES = 400
PLACE = "127.0.0.80"


class Nginx:
    """Answers /1 with one byte and /big with MEGABYTES, and takes what is posted to /up."""

    def __init__(self, directory):
        program = need(shutil.which("nginx", path=STANDARD_PATH), "nginx")
        place = os.path.join(directory, "nginx")
        os.mkdir(place, 0o755)
        for name, size in (("1", 1), ("big", MEGABYTES * 1000000)):
            with open(os.path.join(place, name), "wb") as file:
                file.truncate(size)
        config = os.path.join(place, "nginx.conf")
        temporary = " ".join(f"{kind}_temp_path {place}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(config, "w") as file:
            file.write(f"daemon off;\nworker_processes 1;\npid {place}/pid;\nerror_log stderr crit;\n"
                       f"events {{ worker_connections 512; }}\nhttp {{ access_log off; keepalive_requests 100000; sendfile on;\n"
                       f"client_max_body_size 0; {temporary}\n"
                       f"server {{ listen {PLACE}:80; root {place};\n"
                       f"location /up {{ proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://{PLACE}:81; }} }}\n"
                       f"server {{ listen {PLACE}:81; location / {{ client_body_buffer_size 1m; return 200; }} }} }}\n")
        self.process = proc.Process("nginx", [program, "-p", place, "-c", config,
                                              *(["-g", "user root;"] if os.geteuid() == 0 else [])], place)
        self.process.wait_listening(80)

    def stop(self):
        self.process.stop(grace=0)


class Haproxy:
    """A proxy for requests in absolute form to the one origin; refuses CONNECT."""

    def __init__(self, directory):
        program = need(shutil.which("haproxy", path=STANDARD_PATH), "haproxy")
        self.port = proc.free_port()
        config = os.path.join(directory, "haproxy.cfg")
        with open(config, "w") as file:
            file.write(f"""global
  maxconn 4000
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen proxy
  bind 127.0.0.1:{self.port}
  http-request deny deny_status 403 if METH_CONNECT
  server origin {PLACE}:80
""")
        self.process = proc.Process("haproxy", [program, "-db", "-f", config], directory)
        self.process.wait_listening(self.port)

    def stop(self):
        self.process.stop(grace=0)


def _measure(bed, fast, *words):
    bed.use(Nginx(bed.directory))
    if fast:
        proxy = bed.use(Haproxy(bed.directory))
    else:
        need(squid.Squid.PROGRAM, "squid")
        proxy = bed.use(squid.Squid(bed.directory, {NAME: PLACE}, shipped_rules=True))
    url = f"http://127.0.0.1:{proxy.port}"
    curl = [need(shutil.which("curl", path=STANDARD_PATH), "curl"), "-sS",
            "-w", "%{stderr}%{http_code} %{time_starttransfer} %{speed_download} %{speed_upload} %{time_pretransfer}\\n"]
    return {"floor": lambda: _read(bed, [*curl, "--proxy", url, *words]),
            "towpath": lambda: _read(bed, [*bed.towpath_words(url), *curl, *words])}


def _read(bed, command):
    try:
        result = proc.run("curl", command, bed.directory, bed.environment, bed.directory, 120)
    except AssertionError as late:
        return {"errors": 1, "why": str(late).splitlines()[0]}
    transfers = [line.split() for line in result.err.splitlines()]
    sample = {"errors": sum(transfer[0] != "200" for transfer in transfers) + (result.code != 0)}
    if sample["errors"]:
        sample["why"] = (result.err.strip().splitlines() or ["without a word"])[-1]
        return sample
    # The first request is also the refusal that is remembered.
    sample["first_us"] = statistics.median(float(transfer[1]) for transfer in transfers) * 1e6
    sample["mb_s"] = max(max(float(transfer[2]), float(transfer[3])) for transfer in transfers) / 1e6
    return sample


def _requests(name, fast, goal, *words):
    @row(name, [Figure("first_us", "to the first byte of the answer", goal=goal)], rounds=7)
    def _row(bed):
        return _measure(bed, fast, *words, "-o", "/dev/null", f"http://{NAME}/1?[1-300]")


def _bulk(name, fast, *words):
    @row(name, [Figure("mb_s", "throughput", "MB/s", ">= 0.70" if fast else ">= 0.90")], rounds=5)
    def _row(bed):
        path = os.path.join(bed.directory, "nginx", "big")
        return _measure(bed, fast, *[word.replace("BIG", path) for word in words])


_requests("plain-http-kept", True, "<= 1.50")
_requests("plain-http-connects", True, "<= 2.00", "-H", "Connection: close")
_requests("plain-http-squid-kept", False, "<= 1.25")
_requests("plain-http-squid-connects", False, "<= 1.50", "-H", "Connection: close")
_bulk("plain-http-down", True, "-o", "/dev/null", f"http://{NAME}/big")
_bulk("plain-http-squid-down", False, "-o", "/dev/null", f"http://{NAME}/big")
_bulk("plain-http-up", True, "-H", "Expect:", "-o", "/dev/null", "-X", "POST", "-T", "BIG", f"http://{NAME}/up")
