"""The job files of examples/cluster: what their systems read of them, and what a signal does."""

import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
SLURM = sorted(CLUSTER.glob("slurm*.sh"))
KUBERNETES = sorted(CLUSTER.glob("kubernetes*.yaml"))
SBATCH = {
    *("job-name", "nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "gpus-per-node"),
    *("time", "signal", "requeue", "open-mode"),
}
"""Options of sbatch, by the manual page of Slurm 24.05, that the files may use."""
STAGE = """#!/bin/bash
echo "$@" >> calls
trap 'echo checkpoint >> calls; exit 143' TERM
touch started
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("path", SLURM, ids=lambda p: p.name)
def test_slurm_reads_the_options(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    head, _, rest = path.read_text().partition("\n#SBATCH")
    assert "Usage: sbatch examples/cluster/" + path.name in head
    options = re.findall(r"^#SBATCH --([a-z-]+)", path.read_text(), re.MULTILINE)
    assert set(options) <= SBATCH
    assert {"signal", "requeue", "time"} <= set(options)
    # sbatch stops reading options at the first command
    commands = [line for line in rest.splitlines() if line and not line.startswith("#")]
    assert not any("#SBATCH" in line for line in commands)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda p: p.name)
def test_kubernetes_has_schemas_for_them(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)
    job = documents[-1]["spec"]["template"]["spec"]
    assert job["terminationGracePeriodSeconds"] > 30, "a checkpoint is written in that time"
    (container,) = job["containers"]
    assert all(isinstance(word, str) for word in container["command"] + container["args"])


def test_a_wrong_field_is_found() -> None:
    (job,) = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    job["spec"]["template"]["spec"]["gracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.31", strict=True)


def program(path: Path, text: str) -> None:
    """Write an executable file."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def stopped(folder: Path, sent: signal.Signals) -> tuple[int, list[str]]:
    """Return what the job ends with after a signal in its middle, and what was called by then."""
    programs = folder / "bin"
    programs.mkdir()
    program(programs / "dcsnas", STAGE)
    program(programs / "scontrol", '#!/bin/bash\necho scontrol "$@" >> calls\n')
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    job = subprocess.Popen(
        ["bash", CLUSTER / "slurm.sh", "search", "search_tiny", "--set", "data.root=a b"],
        cwd=folder,
        env={**os.environ, "PATH": path, "SLURM_JOB_ID": "17"},
    )
    deadline = time.monotonic() + 30
    while not (folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(sent)
    return job.wait(timeout=30), (folder / "calls").read_text().splitlines()


def test_at_the_end_of_its_time_a_job_is_queued_again(tmp_path: Path) -> None:
    code, calls = stopped(tmp_path, signal.SIGUSR1)
    assert calls == ["search search_tiny --set data.root=a b", "checkpoint", "scontrol requeue 17"]
    assert code == 143


def test_a_job_that_is_taken_away_is_queued_again_by_slurm_itself(tmp_path: Path) -> None:
    code, calls = stopped(tmp_path, signal.SIGTERM)
    assert calls[1:] == ["checkpoint"]
    assert code == 143
