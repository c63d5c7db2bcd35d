"""Hosts on this machine: network namespaces with addresses, names and ``/etc/hosts`` of their own.

They are joined by a bridge in a namespace that is none of them, so nothing is changed in the
machine's own network, and removing the namespaces removes everything. It takes root and Linux.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

NAMES = ("alder", "birch", "cedar")
NETWORK = "10.77.0"
PREFIX = "dcsnas-hosts-"
NAMESPACES = Path("/run/netns")
ETC = Path("/etc/netns")
"""``ip netns exec`` shows the files of a folder here, named as a namespace, as those of /etc."""
_POLL_S = 0.05


@dataclass(frozen=True)
class Host:
    """A namespace with one link, ``eth0``."""

    name: str
    namespace: str
    address: str
    switch: str
    """The namespace with the other end of its link, which is called as the host is."""
    home: Path
    """Of root on this host."""
    hidden: Path | None = None
    """A folder that is another one, and empty, for every command that is started here."""

    def start(
        self, command: Sequence[object], log: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start ``command`` on this host, in a session of its own, printing to ``log``."""
        own = f"hostname {self.name}; "
        if self.hidden:
            own += f"mount -t tmpfs none {self.hidden}; "
        named = ["unshare", "--uts", "--mount", "sh", "-e", "-c", f'{own}exec "$0" "$@"']
        whole = ["ip", "netns", "exec", self.namespace, *named, *map(str, command)]
        with log.open("ab") as file:
            return subprocess.Popen(
                whole,
                env={**environment, "HOME": str(self.home), "TMPDIR": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self, *command: object) -> str:
        """Return what ``command`` prints on this host; raises CalledProcessError."""
        return _run("ip", "netns", "exec", self.namespace, *command)

    def cut(self) -> None:
        """Take the cable out: nothing that is sent arrives, and nobody is told."""
        _run("ip", "-n", self.switch, "link", "set", self.name, "down")

    def join(self) -> None:
        """Put the cable back."""
        _run("ip", "-n", self.switch, "link", "set", self.name, "up")

    def pids(self) -> list[int]:
        """Return the processes of this host."""
        return [int(number) for number in _run("ip", "netns", "pids", self.namespace).split()]

    def kill(self) -> None:
        """Kill every process of this host."""
        while numbers := self.pids():
            for number in numbers:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(_POLL_S)


def missing() -> str | None:
    """Return what this machine lacks for hosts, None where there is nothing."""
    if os.geteuid() != 0:
        return "hosts on this machine take root"
    for program in ("ip", "unshare", "hostname"):
        if not shutil.which(program):
            return f"hosts on this machine take the program {program}"
    try:
        with network(1, name="trial"):
            return None
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"


@contextmanager
def network(count: int = 2, name: str = "net") -> Iterator[list[Host]]:
    """Yield ``count`` hosts that reach each other, and remove them with all that runs on them.

    Several networks of one process have a ``name`` each, and do not reach each other.
    """
    _remove_leftovers()
    with ExitStack() as made:
        homes = Path(made.enter_context(TemporaryDirectory(prefix="dcsnas-homes-")))
        switch = _namespace(f"{os.getpid()}-{name}-switch", made)
        _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge", "up")
        hosts = []
        for number, called in enumerate(NAMES[:count], 1):
            namespace = _namespace(f"{os.getpid()}-{name}-{called}", made)
            host = Host(called, namespace, f"{NETWORK}.{number}", switch, homes / called)
            _connect(host)
            hosts.append(host)
        known = "".join(f"{host.address} {host.name}\n" for host in hosts)
        for host in hosts:
            _write_etc(host, f"127.0.0.1 localhost\n{known}", made)
        yield hosts


def _namespace(name: str, made: ExitStack) -> str:
    full = f"{PREFIX}{name}"
    _run("ip", "netns", "add", full)
    made.callback(_remove, full)
    _run("ip", "-n", full, "link", "set", "lo", "up")
    return full


def _connect(host: Host) -> None:
    peer = ("peer", "name", "eth0", "netns", host.namespace)
    _run("ip", "-n", host.switch, "link", "add", host.name, "type", "veth", *peer)
    _run("ip", "-n", host.switch, "link", "set", host.name, "master", "bridge", "up")
    _run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    _run("ip", "-n", host.namespace, "link", "set", "eth0", "up")


def _write_etc(host: Host, known: str, made: ExitStack) -> None:
    folder = ETC / host.namespace
    folder.mkdir(parents=True)
    made.callback(shutil.rmtree, folder)
    (folder / "hosts").write_text(known)
    lines = Path("/etc/passwd").read_text().splitlines()
    fields = [line.split(":") for line in lines]
    for field in fields:
        if field[0] == "root":
            field[5] = str(host.home)
    (folder / "passwd").write_text("".join(f"{':'.join(field)}\n" for field in fields))
    host.home.mkdir()


def _remove(namespace: str) -> None:
    with suppress(subprocess.CalledProcessError):
        Host("", namespace, "", "", Path()).kill()
    _run("ip", "netns", "delete", namespace)


def _remove_leftovers() -> None:
    """Remove the hosts of a program that was killed."""
    for path in NAMESPACES.glob(f"{PREFIX}*") if NAMESPACES.exists() else ():
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            _remove(path.name)
            shutil.rmtree(ETC / path.name, ignore_errors=True)


def _run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    return done.stdout
