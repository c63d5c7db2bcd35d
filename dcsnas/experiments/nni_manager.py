"""Starting NNI's manager: the one place for its version, its environment and its patches.

The patches are in ``nni_patches.cjs``; what a trial does otherwise than NNI would is in
``channel.py`` and ``process.py``, what a tuner does in ``tuners.py``. Each says which defect it
answers.
"""

import json
import logging
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import requests
from nni.experiment import Experiment, RunMode, launcher, rest
from nni.experiment.config import AlgorithmConfig, CustomAlgorithmConfig, ExperimentConfig

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json, write_text
from dcsnas.config.outputs import held
from dcsnas.config.plugins import named
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.remote import addresses_of
from dcsnas.experiments.sweep import SweepConfig, planned, search_space

NNI_VERSION = "3.0"
"""The patches are for this version."""
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
FIRST_PORT, LAST_PORT = 8080, 8179
PATCHES = Path(__file__).with_name("nni_patches.cjs")
START_S = 60
"""For the manager to start in, on a machine that does other work; NNI itself gives it 4."""
_POLL_S = 0.2

TrainingService = Mapping[str, Any]
"""NNI's own description of where trials run, in its YAML's words."""


def configure(folder: ExperimentFolder, sweep: SweepConfig) -> ExperimentConfig:
    """Return NNI's configuration of ``sweep``; raises UserError where the service is wrong."""
    service = folder.service_content
    config = ExperimentConfig("local")
    if service:
        config.training_service = training_service(service, folder.service)
    config.experiment_name = sweep.name
    config.search_space = search_space(sweep)
    python = sys.executable if not service else "python3"
    # -P: nothing in the folder that it runs in, here or on another machine, is a module
    trial = [python, "-P", "-m", "dcsnas.experiments.trial", str(folder.path.resolve()), *named]
    config.trial_command = shlex.join(trial)
    config.trial_code_directory = os.getcwd() if not service else _no_code(folder)
    config.trial_concurrency = sweep.concurrency
    config.max_trial_number = sweep.count
    config.experiment_working_directory = str(folder.nni.resolve())
    config.tuner = _tuner(folder, sweep)
    config.assessor = None
    config.advisor = None
    return config


def _no_code(folder: ExperimentFolder) -> str:
    """Return a folder without code, for NNI to copy to other machines, or its tuner to look in."""
    none = folder.nni.resolve() / "no_code"
    none.mkdir(parents=True, exist_ok=True)
    # NNI's tar takes no empty folder
    write_text(none / "README", "Trials run the dcsnas that is installed on their machine.\n")
    return str(none)


def training_service(content: TrainingService, source: Path | str) -> Any:
    """Return NNI's training service of a file's content; raises UserError."""
    try:
        return ExperimentConfig(training_service=dict(content)).training_service
    except Exception as error:  # NNI's own checks raise many kinds
        raise UserError(f"{source}: NNI does not take it: {error}") from None


def _tuner(folder: ExperimentFolder, sweep: SweepConfig) -> AlgorithmConfig:
    arguments: dict[str, Any] = {"database": str(folder.database().path.resolve())}
    if sweep.tuner == "tpe":
        name, arguments["seed"] = "Tpe", sweep.seed
    else:
        name, arguments["plan"] = "Planned", planned(sweep)
    algorithm: Any = CustomAlgorithmConfig(
        class_name=f"dcsnas.experiments.tuners.{name}",
        code_directory=_no_code(folder),
        class_args=arguments,
    )
    return algorithm


def launch(folder: ExperimentFolder, experiment: Experiment, action: str, *, host: str) -> str:
    """Start the manager of ``experiment`` detached and return the address of its web page.

    ``action`` is "create", "resume" or "view". Raises UserError where it does not start.
    """
    require_version()
    experiment._action = action  # type: ignore[assignment]  # as Experiment.resume and view do
    allowed = addresses_of(folder.service_content or {}) if action != "view" else []
    with _port(host) as port, manager_environment(host, allowed), _patience(experiment.id):
        if is_running(folder):  # another command was faster
            raise UserError(f"{folder.path}: runs already, at {folder.url}")
        record = {"url": f"http://localhost:{port}", "host": host, "port": port}
        write_json(folder.manager, record)
        # NNI's log and the manager's output go to files; this program says what there is to say
        logging.getLogger("nni").setLevel(logging.CRITICAL)
        folder.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            experiment.start(port, run_mode=RunMode.Detach)
        except Exception as error:
            raise UserError(
                f"NNI's manager did not start ({error}); {folder.end_of_log}"
            ) from error
        except KeyboardInterrupt:
            _kill_manager(experiment.id)  # as NNI does after any other error
            raise
        finally:
            logging.getLogger("nni").setLevel(logging.WARNING)
    manager: Any = experiment._proc
    write_json(folder.manager, {**record, "pid": manager.pid})
    manager.returncode = 0  # it outlives this program, of which Popen would warn
    return record["url"]


@contextmanager
def _patience(experiment: str) -> Iterator[None]:
    """Let NNI's launcher wait for a manager that starts slowly, but not for one that has ended."""
    check = launcher._check_rest_server
    launcher._check_rest_server = partial(_await_manager, experiment)
    try:
        yield
    finally:
        launcher._check_rest_server = check


def _await_manager(experiment: str, port: int, url_prefix: str | None = None) -> None:
    """Return when the manager answers; raises RuntimeError where it does not in ``START_S``."""
    until = time.monotonic() + START_S
    while _managers(experiment):
        with suppress(Exception):  # whatever it answers before it is ready
            rest.get(port, "/check-status", url_prefix)
            return
        if time.monotonic() > until:
            raise RuntimeError(f"it did not answer within {START_S} s")
        time.sleep(_POLL_S)
    raise RuntimeError("it ended at once")


def _managers(experiment: str) -> list[psutil.Process]:
    """Return the manager that this process has started; once it has ended its line is empty."""
    return [child for child in psutil.Process().children() if experiment in child.cmdline()]


def _kill_manager(experiment: str) -> None:
    for manager in _managers(experiment):
        manager.kill()


def answer(folder: ExperimentFolder, api: str, *, method: str = "get") -> Any:
    """Return what the manager answers, None if it does not run."""
    record = folder.manager_record()
    if not record:
        return None
    session = requests.Session()
    session.trust_env = False  # no proxy
    try:
        reply = session.request(method, f"{record['url']}/api/v1/nni/{api}", timeout=30)
        reply.raise_for_status()
        return reply.json() if reply.content else {}
    except (requests.RequestException, ValueError):
        return None


def is_running(folder: ExperimentFolder) -> bool:
    """Return whether a manager of this experiment answers where it was last started."""
    profile = answer(folder, "experiment")
    return isinstance(profile, dict) and profile.get("id") == folder.id


def wait_for_end(folder: ExperimentFolder, *, timeout_s: float = 60) -> None:
    """Wait until the manager's process has ended; kill it if it does not."""
    try:
        process = psutil.Process(folder.manager_record().get("pid", -1))
        ended = process.status() == psutil.STATUS_ZOMBIE
        if not ended and folder.id not in process.cmdline():
            return  # the number was given to another process since, perhaps another's manager
        process.wait(timeout_s)
    except (psutil.NoSuchProcess, ValueError):
        return
    except psutil.TimeoutExpired as error:
        process = psutil.Process(error.pid)
        process.kill()
        process.wait(timeout_s)


def check_host(host: str, service: TrainingService | None) -> None:
    """Raise UserError for an address that NNI, or trials on other machines, would not reach."""
    if host not in (LOOPBACK, EVERYWHERE):
        raise UserError(
            f"--host {host}: give {LOOPBACK}, or {EVERYWHERE} for every address of this machine; "
            "NNI's own processes call it localhost"
        )
    if service and (host == LOOPBACK or not service.get("nni_manager_ip")):
        raise UserError(
            "trials on other machines report to this one: give --host "
            f"{EVERYWHERE}, and nni_manager_ip in the file of the training service"
        )


@contextmanager
def manager_environment(host: str, allowed: Sequence[str] = ()) -> Iterator[None]:
    """Set what the manager's process is to inherit: the patches, the address, no proxy for it.

    Beside this machine it answers the addresses in ``allowed`` alone, or all where there are none.
    """
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY"), "localhost", LOOPBACK]))
    wanted = {
        "NODE_OPTIONS": f"--require={json.dumps(str(PATCHES), ensure_ascii=False)}",
        "DCSNAS_NNI_HOST": host,
        "DCSNAS_NNI_ALLOWED": json.dumps(list(allowed)),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONWARNINGS": "ignore",  # pkg_resources, pydantic's older syntax
    }
    before = {name: os.environ[name] for name in wanted if name in os.environ}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _port(host: str) -> Iterator[int]:
    """Yield a free port, and keep other experiments of this user from taking it meanwhile."""
    lock = Path(tempfile.gettempdir()) / f"dcsnas-ports-{os.getuid()}.lock"
    otherwise = "it starts an experiment; wait until it has, or stop it"
    with held(lock, of=lock, otherwise=otherwise, patience_s=3 * START_S):
        yield free_port(host)


def free_port(host: str, *, first: int = FIRST_PORT, last: int = LAST_PORT) -> int:
    """Return the first port that nobody listens on, with a free one after it.

    NNI takes the next port too when trials run on other machines. Raises UserError.
    """
    for port in range(first, last + 1):
        if all(_is_free(host, p) for p in (port, port + 1)):
            return port
    raise UserError(f"no free port from {first} to {last} on {host}; stop an experiment")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as listener:
        # a port whose connections are still closing can be listened on again
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    # something may listen on another address of the same port, and localhost lead there
    return not any(_answers(address, port) for address in (LOOPBACK, "::1"))


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def require_version() -> None:
    """Raise UserError for an NNI that the patches are not for."""
    if (found := version("nni")) != NNI_VERSION:
        raise UserError(
            f"nni {found} is installed, the patches are for {NNI_VERSION}; install with "
            "-c constraints.txt"
        )
