"""Times of trtexec: its documented files, written by a stand-in, since there is no GPU here.

A file of ``--exportTimes`` is a list with an object for each inference: ``exportJSONTrace`` in
samples/common/sampleReporting.cpp of github.com/NVIDIA/TensorRT (release 10). The log's lines are
those of trtexec 8.2 to 10.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.plans.plan import Plan, read_plan
from dcsnas.latency.plans.results import check_results, make_table
from dcsnas.latency.plans.trtexec import holds_trtexec, read_trtexec
from plan_fakes import SPACE, model_ms

TRACE = (
    '{{ "startEnqMs" : 1.0, "endEnqMs" : 1.1, "startH2dMs" : 1.1, "endH2dMs" : 1.1, '
    '"startComputeMs" : 1.1, "endComputeMs" : 2.0, "startD2hMs" : 2.0, "endD2hMs" : 2.0, '
    '"h2dMs" : 0, "computeMs" : {ms}, "d2hMs" : 0, "latencyMs" : {ms} }}'
)
LOG = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=model.onnx
[11/01/2026-10:32:46] [I] === Build Options ===
[11/01/2026-10:32:46] [I] Precision: FP32
[11/01/2026-10:32:46] [I] === Device Information ===
[11/01/2026-10:32:46] [I] Selected Device: Orin
[11/01/2026-10:32:46] [I] TensorRT version: 10.3.0
&&&& PASSED TensorRT.trtexec [TensorRT v100300]
"""
TRTEXEC = """#!/bin/sh
for word in "$@"; do case $word in
    --onnx=*) model=${word#*=} ;;
    --saveEngine=*) save=${word#*=} ;;
    --loadEngine=*) model=$(cat "${word#*=}") ;;
    --exportTimes=*) times=${word#*=} ;;
    --useCudaGraph|--useSpinWait|--noDataTransfers|--warmUp=*|--iterations=*|--duration=*) ;;
    *) echo "unknown option $word"; exit 1 ;;
esac; done
echo "$model" >> trtexec_calls
[ -z "${save:-}" ] || echo "$model" > "$save"
printf '[\\n  { "computeMs" : 0.25 }\\n, { "computeMs" : 0.25 }\\n]\\n' > "$times"
echo "[I] Precision: FP32"
"""


@pytest.fixture
def plan(micro_plan: Path) -> Plan:
    return read_plan(micro_plan / "plan.json")


def write_times(path: Path, ms: float, count: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n  " + ", ".join([TRACE.format(ms=ms) + "\n"] * count) + "]\n")


@pytest.fixture
def folder(micro_plan: Path, plan: Plan, tmp_path: Path) -> Path:
    """Return what trtexec.sh leaves on a device that takes the fake device's times."""
    folder = tmp_path / "trtexec"
    for file, ms in model_ms(plan).items():
        for number in (1, 2) if file.startswith("networks") else (1,):
            stem = folder / file.removesuffix(".onnx")
            write_times(stem.with_suffix(f".{number}.json"), ms)
            write_times(stem.with_suffix(f".{number}.reference.json"), 0.5)
            stem.with_suffix(f".{number}.log").write_text(LOG)
    shutil.copy(micro_plan / "plan.json", folder)
    return folder


def test_its_times_become_a_table_and_its_check(folder: Path, tmp_path: Path):
    assert holds_trtexec(folder)
    results = read_trtexec(folder)
    table = make_table(results, SPACE, tmp_path / "table.json")
    conditions = table.file.conditions
    assert (conditions.device, conditions.device_name) == ("cuda", "Orin")
    assert (conditions.backend, conditions.backend_version) == ("tensorrt", "10.3.0")
    assert table.file.calibration is not None
    assert table.file.calibration.scale == pytest.approx(1.3)
    assert table.file.reference.p50 == 0.5
    check = check_results(table, results)
    assert check is not None
    assert check.all.table.mape_percent == pytest.approx(0, abs=1e-6)


def test_another_type_is_refused(folder: Path):
    log = folder / "networks" / "0007.1.log"
    log.write_text(LOG.replace("FP32", "FP32+FP16"))
    with pytest.raises(UserError, match=r"0007.1.log: measured in FP32\+FP16, .* of float32"):
        read_trtexec(folder)


def test_a_log_that_is_none(folder: Path):
    (folder / "operators" / "0001.1.log").write_text("trtexec: not found")
    with pytest.raises(UserError, match=r"no line 'Selected Device: ...': expected the log"):
        read_trtexec(folder)


@pytest.mark.parametrize("content", ["[\n  { ", "{}", "[]", '[{"latencyMs": 1.0}]', "[1]"])
def test_damaged_times(folder: Path, content: str):
    path = folder / "operators" / "0004.1.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"0004.1.json: not the times that trtexec --exportTimes"):
        read_trtexec(folder)


def test_missing_models(folder: Path):
    (folder / "networks" / "0009.1.json").unlink()
    with pytest.raises(UserError, match=r"1 of 59 models lack samples, such as networks/0009.onnx"):
        read_trtexec(folder)


def test_no_reference(folder: Path):
    (folder / "operators" / "0004.1.reference.json").unlink()
    with pytest.raises(UserError, match=r"0004.1.reference.json: no such file"):
        read_trtexec(folder)


def test_seconds_that_stand_for_milliseconds(folder: Path, plan: Plan):
    for file, ms in model_ms(plan).items():
        for path in (folder / file).parent.glob(f"{Path(file).stem}.?.json"):
            write_times(path, ms / 1000)
    with pytest.raises(UserError, match=r"faster than any device: are these seconds\?"):
        read_trtexec(folder)


@pytest.fixture
def device(micro_plan: Path, tmp_path: Path) -> Path:
    """Return a plan on a device whose trtexec is a stand-in that takes the script's options."""
    device = Path(shutil.copytree(micro_plan, tmp_path / "device"))
    for model in sorted((device / "operators").iterdir())[3:]:
        model.unlink()
    for model in sorted((device / "networks").iterdir())[2:]:
        model.unlink()
    (device / "trtexec_fake").write_text(TRTEXEC)
    (device / "trtexec_fake").chmod(0o755)
    return device


def script(device: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(device / "trtexec.sh"), *options],
        env={"PATH": "/usr/bin:/bin", "TRTEXEC": "./trtexec_fake"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_script_times_every_model_beside_the_reference_and_goes_on(device: Path):
    done = script(device)
    assert done.returncode == 0, done.stderr
    operators = [f"operators/000{n}.onnx" for n in (1, 2, 3)]
    networks = [f"networks/000{n}.onnx" for n in (1, 2)]
    wanted = [*operators, *networks, *networks]
    calls = (device / "trtexec_calls").read_text().split()
    assert calls == [call for model in wanted for call in ("reference.onnx", model)]
    names = {path.name for path in (device / "trtexec" / "networks").iterdir()}
    assert {"0002.2.json", "0002.2.reference.json", "0002.2.log"} <= names
    assert holds_trtexec(device / "trtexec")
    (device / "trtexec" / "operators" / "0002.1.json").unlink()
    (device / "trtexec_calls").unlink()
    assert script(device).returncode == 0
    assert (device / "trtexec_calls").read_text().split() == ["reference.onnx", operators[1]]


def test_the_script_says_which_model_failed(device: Path):
    done = script(device, "--fpX")
    assert done.returncode == 1
    assert "trtexec.sh: reference.onnx failed: see trtexec/operators/0001.1.reference.log" in (
        done.stderr
    )
    assert not list((device / "trtexec").rglob("*.json"))[1:]
    (device / "plan.json").unlink()
    assert script(device).stderr == "trtexec.sh: no plan.json here: copy the whole folder\n"
