"""A real sshd, and what a client needs to get in."""

import os
import subprocess


def sshd(case, address):
    """Listens on port 22 of the address for the rest of the test: (ssh, its options)."""
    ssh, keygen, place = case.need("ssh"), case.need("ssh-keygen"), case.directory
    case.need("sshd")
    for name in ("host", "mine"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(place, name)], check=True)
    options = [f"HostKey={place}/host", f"AuthorizedKeysFile={place}/mine.pub", "StrictModes=no", "UsePAM=no", "PidFile=none",
               "PermitRootLogin=yes", "PasswordAuthentication=no", f"ListenAddress={address}:22", "Subsystem=sftp internal-sftp"]
    line = " ".join(f"-o '{option}'" for option in options)
    # The privilege separation directory is not there on every machine, and the machine's own must not be touched.
    server = case.spawn("sshd", "unshare", "--mount", "sh", "-c",
                        f"mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f /dev/null {line}")
    server.wait_listening(22)
    return ssh, ["-F", "/dev/null", "-i", f"{place}/mine", "-o", "StrictHostKeyChecking=no",
                 "-o", f"UserKnownHostsFile={place}/known", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
                 "-o", "LogLevel=ERROR"]
