"""What is found of a machine: limits, what is missing, what is broken; and what follows of it."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.config.errors import UserError
from dcsnas.doctor import machine, software
from dcsnas.doctor.findings import NETWORKS, STAGES, Diagnosis, Finding
from dcsnas.doctor.limits import cpu_limit, memory_limit
from dcsnas.experiments import readiness
from dcsnas.latency.allocator import allocator_environment, describe_glibc


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, None),
        # version 2: the limit of a group above holds too
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a/b/memory.max": "1000000\n",
                "sys/fs/cgroup/a/memory.max": "max\n",
            },
            1.5,
            1_000_000,
        ),
        # in a container the path is the host's, and the files are at the top
        (
            {
                "proc/self/cgroup": "0::/../../host\n",
                "sys/fs/cgroup/cpu.max": "50000 100000",
                "sys/fs/cgroup/memory.max": "2000000",
            },
            0.5,
            2_000_000,
        ),
        # version 1, controllers mounted together
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n1:name=systemd:/\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712",
            },
            3.0,
            None,
        ),
    ],
)
def test_limits(
    tmp_path: Path, files: dict[str, str], cpus: float | None, memory: int | None
) -> None:
    root = write_tree(tmp_path, files)
    assert cpu_limit(root) == cpus
    assert memory_limit(root) == memory


def test_fewer_cpus_than_threads_is_told() -> None:
    found = machine.check_processors(0.5)
    assert found.state == "note"
    assert "OMP_NUM_THREADS=1" in found.advice
    assert found.facts["cpus"] == len(os.sched_getaffinity(0))


def test_instruction_sets() -> None:
    assert machine.instruction_sets("flags\t\t: fpu avx2 avx512f amx_tile\n") == [
        *("AVX2", "AVX-512", "AMX"),
    ]
    assert machine.instruction_sets("Features : fp asimd sve\n") == ["NEON", "SVE"]
    assert machine.instruction_sets("") == []


@pytest.mark.parametrize(
    ("available_kib", "limit", "state"),
    [(8 << 20, None, "ok"), (8 << 20, 1 << 29, "note"), (1 << 19, None, "note")],
)
def test_memory(available_kib: int, limit: int | None, state: str) -> None:
    text = f"MemTotal: {16 << 20} kB\nMemAvailable: {available_kib} kB\n"
    assert machine.check_memory(limit, text).state == state


def test_allocator() -> None:
    kept = describe_glibc(allocator_environment())
    fine = machine.check_allocator(("glibc", "2.36"), "always [madvise] never\n")
    assert fine.state == "ok"
    assert fine.facts["huge_pages"] == "madvise"
    assert fine.facts["allocator"].startswith("glibc") or fine.facts["allocator"] == kept
    assert machine.check_allocator(("glibc", "2.31"), "[always]").state == "note"
    assert "madvise" in machine.check_allocator(("glibc", "2.36"), "always [never]").advice


def test_a_full_or_foreign_disk_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.check_disk("disk (here)", tmp_path).state == "ok"
    monkeypatch.setattr(machine, "LEAST_DISK", 1 << 60)
    assert machine.check_disk("disk (here)", tmp_path).stops == STAGES
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = machine.check_disk("disk (temporary)", tmp_path)
    assert "cannot be written to" in found.text
    assert "TMPDIR" in found.advice


def test_no_room_for_locks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", full)
    found = machine.check_shared_memory()
    assert found.state == "note"
    assert "--shm-size" in found.advice


def test_pythons() -> None:
    assert software.check_python((3, 12, 1)).state == "ok"
    assert software.check_python((3, 10, 9)).stops == STAGES
    assert software.check_python((3, 14, 0)).stops == STAGES


def test_packages() -> None:
    assert software.check_packages(["torch>=2.11", "numpy"]).state == "ok"
    missing = software.check_packages(["no-such-package>1", "numpy"])
    assert missing.facts["missing"] == ["no-such-package"]
    assert missing.stops == STAGES
    other = software.check_packages(["numpy<1"])
    assert other.state == "note"
    assert "(wanted: numpy<1)" in other.text


def test_what_is_asked_for_is_read_of_the_metadata() -> None:
    wanted = software._requirements()
    assert any(line.startswith("torch") for line in wanted)
    assert not any("pytest" in line for line in wanted)


def test_a_broken_torch_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise ImportError("libtorch.so: cannot open\nmore")

    monkeypatch.setattr(software, "check_torch", broken)
    found = {finding.name: finding for finding in software.check_software()}
    assert found["torch"].stops == NETWORKS
    assert found["torch"].text == "fails: ImportError: libtorch.so: cannot open"
    assert "NNI" not in found  # which imports torch


def test_a_gpu_beside_a_cpu_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr(Path, "exists", lambda path: path == Path("/dev/nvidia0"))
    found = software.check_torch()
    assert found.state == "note"
    assert "this torch is a CPU build" in found.text


@pytest.mark.parametrize(
    ("imports", "declared", "state"),
    [(True, False, "ok"), (True, True, "ok"), (False, False, "problem")],
)
def test_torchvision(
    monkeypatch: pytest.MonkeyPatch, imports: bool, declared: bool, state: str
) -> None:
    monkeypatch.setattr(software, "find_spec", lambda name: object())
    monkeypatch.setattr("dcsnas.zoo.torchvision_shim.torchvision_imports", lambda: imports)
    monkeypatch.setattr("dcsnas.torchvision_compat.operators_were_declared", lambda: declared)
    found = software.check_torchvision()
    assert found.state == state
    assert ("retrain" in found.stops) == (not imports)
    assert ("operators are declared" in found.text) == declared


def test_optional_parts() -> None:
    assert software.check_export(lambda name: None).stops == ("export",)
    nothing = software.check_browser(lambda name: None, lambda name: None)
    assert nothing.state == "note"
    assert "playwright" in nothing.advice
    assert not nothing.stops


def test_nni_is_asked_whether_it_would_start(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = readiness.check_manager()
    with socket.socket() as free:
        free.bind(("127.0.0.1", ready.port))  # nobody has it
    monkeypatch.setattr("dcsnas.experiments.nni_manager.NNI_VERSION", "2.9")
    with pytest.raises(UserError, match=r"nni 3.0 is installed, the patches are for 2.9"):
        readiness.check_manager()
    assert software.check_nni().stops == ("experiment",)


def test_a_node_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "node"
    monkeypatch.setattr(readiness, "_node", lambda: node)
    with pytest.raises(UserError, match="NNI's Node does not run here"):
        readiness.check_manager()
    node.write_text("#!/bin/sh\necho v18 false\n")  # one that was not given the patches
    node.chmod(0o755)
    with pytest.raises(UserError, match="patches of NNI's manager were not loaded"):
        readiness.check_manager()


def test_a_problem_stops_its_stages_alone() -> None:
    lack = Finding("ONNX", "problem", "not installed", "install it", stops=("export",))
    fine = Finding("torch", "ok", "2.13")
    found = Diagnosis([fine, lack])
    assert not found.sound
    on_a_gpu = Finding("torch", "ok", "2.13", facts={"devices": ["H100", "A10"]})
    assert Diagnosis([on_a_gpu]).in_words("search") == "can run: CUDA (H100)"
    assert Diagnosis([lack]).device == ""
    assert found.in_words("export") == "cannot run: ONNX"
    assert found.in_words("retrain") == "can run: the CPU"
    assert found.in_words("data") == "can run"
    record = json.loads(json.dumps(found.record()))
    assert record["stages"]["export"] == {"runs": False, "uses": "", "lacks": ["ONNX"]}
    assert list(record["stages"]) == list(STAGES)


@pytest.mark.parametrize("sound", [True, False])
def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sound: bool
) -> None:
    if not sound:
        monkeypatch.setattr(software, "EXPORT", ("no_such_module",))
    for arguments in (["--json"], []):
        monkeypatch.setattr(sys, "argv", ["dcsnas", "doctor", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        assert stop.value.code == (0 if sound else 1)
        text = capsys.readouterr().out
        if arguments:
            record = json.loads(text)
            assert record["sound"] is sound
            assert record["stages"]["export"]["runs"] is sound
            assert record["stages"]["retrain"]["uses"].startswith(("the CPU", "CUDA"))
            assert "eager" in record["stages"]["profile"]["uses"]
            for finding in record["findings"]:
                assert (finding["state"] == "ok") == (not finding["advice"])
        else:
            lines = text.splitlines()
            assert any(line.startswith("experiment") for line in lines)
            assert ("cannot run: ONNX" in text) == (not sound)
