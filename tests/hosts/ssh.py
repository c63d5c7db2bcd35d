"""An SSH server on a host, which knows one key and gives its sessions this checkout."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from distributed_setup import TESTS
from hosts.network import Host

PORT = 22
SSHD = "/usr/sbin/sshd"
START_S = 20
CONFIG = """
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
SetEnv PYTHONPATH={path} OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore
"""


def missing_ssh() -> str | None:
    """Return what this machine lacks for an SSH server."""
    if not Path(SSHD).exists() or not shutil.which("ssh"):
        return f"needs {SSHD} and ssh; install openssh-server"
    return None


def make_keys(folder: Path) -> Path:
    """Make the servers' key and the user's, and return the latter."""
    for name in ("host_key", "key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return folder / "key"


def start_server(host: Host, folder: Path) -> "subprocess.Popen[bytes]":
    """Return an SSH server that listens on ``host``, its files in ``folder``; it ends with it."""
    Path("/run/sshd").mkdir(exist_ok=True)  # which the server wants, whatever its files
    path = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    config = folder / f"{host.name}.sshd"
    config.write_text(CONFIG.format(port=PORT, address=host.address, folder=folder, path=path))
    log = folder / f"{host.name}.sshd.log"
    environment = {"PATH": os.environ["PATH"]}
    server = host.start([SSHD, "-D", "-e", "-f", config], log, environment)
    until = time.monotonic() + START_S
    while f"{host.address}:{PORT}" not in host.output("ss", "-ltn"):
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return server
