"""The machines of NNI's remote service: looked at before a trial, and alone answered by NNI.

NNI itself copies the trial's code, of which there is none here. All else has to be on the
machine: dcsnas in its Python, and the experiment's folder and inputs on a disk that all share.
"""

import json
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.outputs import LOCK
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.machine import described
from dcsnas.experiments.settings import retrain_of, search_of
from dcsnas.experiments.sweep import SweepConfig, tried

REMOTE = "remote"
CONNECT_S = 15
ANSWER_S = 120
"""For a machine to start Python, and read the table."""

Machine = Mapping[str, Any]


def machines_of(service: Mapping[str, Any] | None) -> list[Machine]:
    """Return the machines of NNI's remote service; none of another."""
    if not service or service.get("platform") != REMOTE:
        return []
    return list(service.get("machine_list") or service.get("machineList") or [])


def check_machines(
    folder: ExperimentFolder, sweep: SweepConfig, service: Mapping[str, Any] | None
) -> None:
    """Raise UserError, a line a machine, where trials could not run on one of ``service``."""
    lock = folder.path / LOCK  # the folder's only file yet
    looked = look_at_machines(lock, sweep, service)
    if wrong := [f"machine {host}: {problem}" for host, problem in looked if problem]:
        raise UserError("\n".join(wrong))


def look_at_machines(
    shared: Path, sweep: SweepConfig, service: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    """Return the name of each machine of ``service``, and why no trial could run there, or "".

    ``shared`` is a file in the experiment's folder, or beside it, that all machines have to see.
    """
    machines = machines_of(service)
    expected = described(_paths(shared, sweep)) if machines else {}
    found = []
    for machine in machines:
        problem = ""
        try:
            _look_at(machine, expected)
        except UserError as error:
            problem = str(error)
        found.append((str(machine["host"]), problem))
    return found


def addresses_of(service: Mapping[str, Any]) -> list[str]:
    """Return the addresses that the manager answers beside this machine's own; none for all.

    Raises UserError where a machine's name has no address.
    """
    found: set[str] = set()
    for machine in machines_of(service):
        try:
            known = socket.getaddrinfo(machine["host"], None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UserError(
                f"machine {machine['host']}: no address is known ({error}); give it in the file of "
                "the training service"
            ) from None
        found |= {str(entry[4][0]) for entry in known}
    return sorted(found)


def _paths(shared: Path, sweep: SweepConfig) -> list[Path]:
    """Return what has to be the same on all machines."""
    paths = {shared.resolve()}
    for parameters in tried(sweep):
        search = search_of(sweep, parameters).config
        named = [search.data.root, search.table, search.space]
        if retraining := retrain_of(sweep, parameters):
            named.append(retraining.data.root)
        paths |= {Path(path) for path in named if path and Path(path).is_absolute()}
    return sorted(paths)


def _look_at(machine: Machine, expected: Mapping[str, Any]) -> None:
    """Raise UserError where ``machine`` is not as ``expected``."""
    if machine.get("password"):
        return  # ssh asks for it, and nobody is there to answer
    try:
        answer = _ask(machine, list(expected["found"]))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = " ".join(str(getattr(error, "stderr", None) or error).split())
        raise UserError(
            f"it does not answer by SSH as it should ({said}); see that ssh reaches it without a "
            "question, and that python_path there has dcsnas"
        ) from None
    for name, version in expected["versions"].items():
        if (found := answer["versions"].get(name)) != version:
            raise UserError(f"it has {name} {found}, and this machine {version}; install the same")
    missing = [p for p, digest in expected["found"].items() if answer["found"].get(p) != digest]
    if missing:
        raise UserError(
            f"it does not have {', '.join(missing)} as this machine has; put them on a disk that "
            "all machines have under the same path"
        )


def _ask(machine: Machine, paths: Sequence[str]) -> dict[str, Any]:
    if not (ssh := shutil.which("ssh")):
        raise OSError("the program ssh is not installed here")
    options = ["BatchMode=yes", "StrictHostKeyChecking=accept-new", f"ConnectTimeout={CONNECT_S}"]
    command = [ssh, *(f"-o{option}" for option in options), "-p", str(machine.get("port", 22))]
    if key := machine.get("ssh_key_file") or machine.get("sshKeyFile"):
        command += ["-oIdentitiesOnly=yes", "-i", str(Path(key).expanduser())]
    bin_ = machine.get("python_path") or machine.get("pythonPath")
    python = f"{bin_}/python3" if bin_ else "python3"
    asked = shlex.join([python, "-P", "-m", "dcsnas.experiments.machine", *paths])
    command += ["-l", str(machine["user"]), "--", str(machine["host"]), asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    return json.loads(done.stdout)
