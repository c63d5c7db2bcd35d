"""The runner of a plan: what it needs, what it writes, how it goes on; and its refusals.

``FAKE`` is an onnxruntime whose runs take 0.1 ms; told so, it kills every seventh process in the
middle of its samples.
"""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dcsnas.latency.plans import plan as plans
from dcsnas.latency.plans.plan import read_plan
from dcsnas.latency.plans.results import check_results, make_table, read_results
from plan_fakes import SPACE

RUNNER = Path(plans.__file__).with_name("run.py")
FAKE = """
import os, time

__version__ = os.environ.get("FAKE_VERSION", "1.20.1")
fails = os.environ.get("FAKE_FAILS", "no such model")
stop_after, runs = 10 ** 9, 0
if count := os.environ.get("FAKE_COUNT"):  # a file with a byte for each process so far
    with open(count, "ab") as file:
        file.write(b".")
    stop_after = 10 ** 9 if os.path.getsize(count) % 7 else 50


class SessionOptions:
    def add_session_config_entry(self, name, value):
        assert (name, value) == ("session.force_spinning_stop", "1")


class OrtValue:
    ortvalue_from_numpy = staticmethod(lambda array: array)
    ortvalue_from_shape_and_type = staticmethod(lambda shape, kind: shape)


class Binding:
    def bind_ortvalue_input(self, name, value):
        assert name == "images"

    def bind_ortvalue_output(self, name, value):
        assert name == "features"


class Port:
    def __init__(self, name):
        self.name, self.shape = name, [1, 2]


class InferenceSession:
    def __init__(self, path, options, providers):
        assert providers == ["CPUExecutionProvider"] and options.intra_op_num_threads == 1
        if fails in path:
            raise Exception("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel\\nmore")

    io_binding = lambda self: Binding()
    get_inputs = lambda self: [Port("images")]
    get_outputs = lambda self: [Port("features")]

    def run_with_iobinding(self, binding):
        global runs
        runs += 1
        if runs > stop_after:
            os._exit(9)
        end = time.perf_counter() + 1e-4
        while time.perf_counter() < end:
            pass
"""


@pytest.fixture
def folder(micro_plan: Path, tmp_path: Path) -> Path:
    """Return a copy of the plan, as on a device."""
    return Path(shutil.copytree(micro_plan, tmp_path / "copy"))


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """Return a folder to import the fake onnxruntime from."""
    module = tmp_path / "fake" / "onnxruntime.py"
    module.parent.mkdir()
    module.write_text(FAKE)
    return module.parent


def run(
    folder: Path, *, fake: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": str(fake)} if fake else {}
    return subprocess.run(
        [sys.executable, str(folder / "run.py")],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", **path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which the runner ended."""
    assert done.returncode not in (0, 9)
    assert done.stderr.startswith("run.py: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_it_needs_numpy_and_onnxruntime_alone_and_python_3_8():
    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_what_it_measures_becomes_a_table_and_its_check(folder: Path, tmp_path: Path):
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "finished: copy" in done.stdout
    plan, results = read_plan(folder / "plan.json"), read_results(folder / "results.json")
    assert results.plan == plan
    assert results.ended
    assert results.started <= results.ended
    import onnxruntime

    assert results.runtime.backend_version == onnxruntime.__version__
    assert (results.runtime.threads, results.failed) == (1, {})
    for model in plan.of_role("network"):
        assert len(results.readings[model.file]) == plan.passes
    table = make_table(results, SPACE, tmp_path / "table.json")
    assert table.file.calibration is not None
    check = check_results(table, results)
    assert check is not None
    assert len(check.networks) == 24


def test_it_goes_on_where_it_was_killed(folder: Path, fake: Path):
    path, stops = folder / "results.json", 0
    seen: dict[str, list] = {}
    while (done := run(folder, fake=fake, FAKE_COUNT=str(fake / "count"))).returncode:
        assert done.stderr.splitlines()[-1].endswith("ended with code 9"), done.stderr
        stops += 1
        content = json.loads(path.read_text())
        assert content["ended"] is None
        readings = content["readings"]
        assert {file: readings[file][: len(parts)] for file, parts in seen.items()} == seen
        assert readings != seen, "no progress"
        seen = readings
    assert stops >= 2
    results = read_results(path)
    assert {model.file for model in results.plan.models[1:]} == set(results.readings)
    kept = path.read_bytes()
    assert run(folder, fake=fake).returncode == 0
    assert path.read_bytes() == kept


def test_every_reading_has_the_reference_beside_it(folder: Path, fake: Path):
    assert run(folder, fake=fake).returncode == 0
    results = read_results(folder / "results.json")
    pairs = [pair for parts in results.readings.values() for part in parts for pair in part]
    assert len(pairs) == 29 * 2 + 30 * 4
    assert min(min(pair) for pair in pairs) > 0.05  # the thread's share of the 0.1 ms that it took
    assert len(results.reference) == results.plan.settings.rounds


def test_an_operator_that_does_not_run_is_left_out(folder: Path, fake: Path):
    done = run(folder, fake=fake, FAKE_FAILS="operators/0003")
    assert done.returncode == 0, done.stderr
    results = read_results(folder / "results.json")
    expected = "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel"
    assert results.failed == {"operators/0003.onnx": expected}


def test_a_network_that_does_not_run_ends_it_with_its_name(folder: Path, fake: Path):
    done = run(folder, fake=fake, FAKE_FAILS="networks/0002")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("run.py: measuring ")
    assert "networks/0002.onnx" in last


def test_an_onnxruntime_that_is_too_old(folder: Path, fake: Path):
    message = refused(run(folder, fake=fake, FAKE_VERSION="1.9.0"))
    assert "onnxruntime 1.9.0 does not read opset 17 of these models" in message
    assert "pip install 'onnxruntime>=1.12'" in message
    assert run(folder, fake=fake, FAKE_VERSION="1.12.0").returncode == 0


def test_no_onnxruntime(folder: Path, fake: Path):
    (fake / "onnxruntime.py").write_text("raise ImportError")
    assert "onnxruntime is missing: pip install onnxruntime" in refused(run(folder, fake=fake))


def test_a_folder_that_is_not_a_plan(folder: Path, fake: Path):
    for content in (None, "{", "[]", '{"schema_version": 2}'):
        (folder / "plan.json").unlink(missing_ok=True)
        if content:
            (folder / "plan.json").write_text(content)
        message = refused(run(folder, fake=fake))
        assert f"no plan of dcsnas profile --plan in {folder}: copy the whole folder" in message


def test_a_model_that_did_not_come_over_whole(folder: Path, fake: Path):
    model = folder / "operators" / "0002.onnx"
    model.write_bytes(model.read_bytes()[:-10])
    assert "operators/0002.onnx is missing or damaged" in refused(run(folder, fake=fake))
    model.unlink()
    assert "operators/0002.onnx is missing or damaged" in refused(run(folder, fake=fake))


def test_more_threads_than_cpus(folder: Path, fake: Path):
    plan = read_plan(folder / "plan.json")
    wanted = plan.wanted.model_copy(update={"threads": 10_000})
    more = plan.model_copy(update={"wanted": wanted})
    (folder / "plan.json").write_text(json.dumps(more.model_dump(mode="json")))
    assert "the plan wants 10000 threads, there are " in refused(run(folder, fake=fake))


def test_results_of_other_software_are_not_continued(folder: Path, fake: Path):
    assert run(folder, fake=fake).returncode == 0
    before = (folder / "results.json").read_bytes()
    message = refused(run(folder, fake=fake, FAKE_VERSION="1.21.0"))
    assert "results.json is damaged, or of another plan, device or software" in message
    assert (folder / "results.json").read_bytes() == before
    (folder / "results.json").write_bytes(before[:100])
    assert "results.json is damaged" in refused(run(folder, fake=fake))
