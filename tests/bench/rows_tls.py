"""An https:// proxy: haproxy ends TLS in front of minimal_proxy. The floor is curl, which can speak TLS to a proxy.
proxychains4 cannot: it goes through a stunnel client, as its users are told to."""

import os
import shutil
import statistics
import subprocess

from bed import NAME, PROXYCHAINS, need
from lab import proc
from lab.case import STANDARD_PATH
from table import Figure, row

MEGABYTES = 600


class TlsProxy:
    """haproxy with a certificate for 127.0.0.1, made for this run."""

    def __init__(self, directory, behind):
        program = shutil.which("haproxy", path=STANDARD_PATH)
        need(program, "haproxy")
        self.port, self.ca = proc.free_port(), os.path.join(directory, "ca.pem")
        key, both, config = (os.path.join(directory, name) for name in ("key.pem", "both.pem", "haproxy.cfg"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                        "-out", self.ca], check=True, capture_output=True)
        with open(both, "w") as file:
            file.write(open(self.ca).read() + open(key).read())
        with open(config, "w") as file:
            file.write(f"""global
  maxconn 4000
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen tls
  bind 127.0.0.1:{self.port} ssl crt {both} alpn http/1.1
  server behind 127.0.0.1:{behind}
""")
        self.process = proc.Process("haproxy", [program, "-db", "-f", config], directory)
        self.process.wait_listening(self.port)

    def stop(self):
        self.process.stop(grace=0)


class Stunnel:
    """Plain on a port of this machine, TLS to the proxy: what stands between proxychains4 and an https:// proxy."""

    def __init__(self, bed, tls):
        self.port = proc.free_port()
        config = bed.file("stunnel.conf", "foreground = yes\npid =\n[tls]\nclient = yes\n"
                          f"accept = 127.0.0.1:{self.port}\nconnect = 127.0.0.1:{tls.port}\n"
                          f"verifyChain = yes\nCAfile = {tls.ca}\ncheckIP = 127.0.0.1\n")
        program = need(shutil.which("stunnel4", path=STANDARD_PATH) or shutil.which("stunnel", path=STANDARD_PATH), "stunnel4")
        self.process = proc.Process("stunnel", [program, config], bed.directory)
        self.process.wait_listening(self.port)

    def stop(self):
        self.process.stop(grace=0)


def _proxychains(bed, tls, *command):
    if PROXYCHAINS is None:
        return None
    stunnel = bed.use(Stunnel(bed, tls))
    config = bed.file("proxychains.conf", f"strict_chain\nquiet_mode\nproxy_dns\n[ProxyList]\nhttp 127.0.0.1 {stunnel.port}\n")
    return lambda: _read(bed, [PROXYCHAINS, "-q", "-f", config, *command])


def _curl(bed, *urls):
    curl = [need(shutil.which("curl", path=STANDARD_PATH), "curl"), "-sS", "-o", "/dev/null",
            "-w", "%{http_code} %{time_starttransfer} %{speed_download}\\n"]
    tls = bed.use(TlsProxy(bed.directory, bed.proxy()["http"]))
    targets = [word for url in urls for word in ("-o", "/dev/null", url)]
    own = ["--proxy", f"https://127.0.0.1:{tls.port}", "--proxy-cacert", tls.ca, "--proxytunnel"]
    words = bed.towpath_words(f"https://127.0.0.1:{tls.port}", f"    tls: {{caFile: {tls.ca}}}\n")
    return {"floor": lambda: _read(bed, [*curl, *own, *targets]),
            "towpath": lambda: _read(bed, [*words, *curl, *targets]),
            "proxychains4": _proxychains(bed, tls, *curl, *targets)}


def _read(bed, command):
    try:
        result = proc.run("curl", command, bed.directory, bed.environment, bed.directory, 120)
    except AssertionError as late:
        return {"errors": 1, "why": str(late).splitlines()[0]}
    transfers = [line.split() for line in result.out.splitlines()]
    sample = {"errors": sum(transfer[0] != "200" for transfer in transfers) + (result.code != 0)}
    if sample["errors"]:
        sample["why"] = (result.err.strip().splitlines() or ["without a word"])[-1]
    else:
        # The first transfer also loads certificates.
        sample["first_us"] = statistics.median(float(transfer[1]) for transfer in transfers) * 1e6
        sample["mb_s"] = max(float(transfer[2]) for transfer in transfers) / 1e6
    return sample


@row("tls-connect", [Figure("first_us", "to the first byte of the answer", goal="<= 1.05")], rounds=7)
def _connect(bed):
    return _curl(bed, f"http://{NAME}:80/1?[1-100]")


@row("tls-throughput", [Figure("mb_s", "throughput", "MB/s", ">= 0.95")], rounds=5)
def _throughput(bed):
    return _curl(bed, f"http://{NAME}:80/{MEGABYTES}000000")
