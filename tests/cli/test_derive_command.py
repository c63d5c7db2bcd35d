"""``dcsnas derive`` with targets and several results, and what it refuses."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.config.files import read_yaml, write_yaml
from dcsnas.spaces.architecture import load_architecture
from latency_fakes import micro_space
from plot_fakes import write_lines, write_search_run

SPACE = micro_space()
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dcsnas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs a command beside a search in ``run``: (code, output, errors)."""
    folder = write_search_run(tmp_path, SPACE).rename(tmp_path / "run")
    write_yaml(folder / "config.yaml", {**read_yaml(folder / "config.yaml"), "table": "fake.json"})
    record = {d.label: [2 ** -(i + 1) for i in range(len(d.options))] for d in SPACE.decisions}
    rising = {label: row[::-1] for label, row in record.items()}
    write_lines(folder / "probabilities.jsonl", [{"epoch": 3, **rising}])
    (folder / "architecture.yaml").unlink()
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        assert "Traceback" not in captured.out + captured.err
        return stop.value.code, captured.out, captured.err

    return command


def test_a_target_is_kept_to(dcsnas: Command) -> None:
    code, shown, _ = dcsnas("derive", "run")
    assert code == 0
    free = load_architecture(Path("run/architecture.yaml")).provenance
    assert f"predicted {free.predicted_latency_ms:.3f} ms at batch 1, probability 10^" in shown

    target = 0.8 * (free.predicted_latency_ms or 0)
    code, shown, _ = dcsnas("derive", "run", "--target-ms", str(target), "--out", "fast.yaml")
    assert code == 0
    assert shown.startswith("fast.yaml: ")
    assert f" of {target:g} ms, " in shown.splitlines()[1]
    fast = load_architecture(Path("fast.yaml")).provenance
    assert (fast.predicted_latency_ms or 1) <= target
    assert (fast.log10_probability or 0) < (free.log10_probability or 0) < 0
    assert (fast.target_ms, free.target_ms) == (target, None)


def aim(run: Path, **changes: object) -> None:
    """Make ``run`` a search with an objective, in place."""
    write_yaml(run / "config.yaml", {**read_yaml(run / "config.yaml"), **changes})


def middle_ms(dcsnas: Command) -> float:
    dcsnas("derive", "run", "--out", "free.yaml")
    return 0.8 * (load_architecture(Path("free.yaml")).provenance.predicted_latency_ms or 0)


def test_a_search_for_a_target_is_derived_within_it(dcsnas: Command) -> None:
    target = middle_ms(dcsnas)
    aim(Path("run"), objective={"form": "target", "cost": "latency", "target": target})
    _, shown, _ = dcsnas("derive", "run")
    said = "the target is that of the search; --target-ms changes it"
    assert f" of {target:g} ms, " in shown.splitlines()[1]
    assert shown.splitlines()[2] == said
    found = load_architecture(Path("run/architecture.yaml")).provenance
    assert found.target_ms == target
    assert (found.predicted_latency_ms or 1) <= target
    _, shown, _ = dcsnas("derive", "run", "--top-k", "3")
    assert shown.splitlines()[-1] == said
    for path in Path("run/architectures").iterdir():
        assert (load_architecture(path).provenance.predicted_latency_ms or 1) <= target


def test_a_target_given_replaces_the_searchs(dcsnas: Command) -> None:
    target = middle_ms(dcsnas)
    aim(Path("run"), objective={"form": "target", "cost": "latency", "target": 0.9 * target})
    _, shown, _ = dcsnas("derive", "run", "--target-ms", str(target))
    assert "target of the search" not in shown
    assert load_architecture(Path("run/architecture.yaml")).provenance.target_ms == target


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"form": "target", "cost": "macs", "target": 0.2}},
        {"objective": {"form": "add", "cost": "latency", "weight": 1.0}},
        {"objective": {"form": "target", "cost": "latency", "target": 0.2}, "strategy": "random"},
    ],
)
def test_other_searches_set_no_limit(dcsnas: Command, changes: dict[str, object]) -> None:
    middle_ms(dcsnas)
    aim(Path("run"), **changes)
    _, shown, _ = dcsnas("derive", "run")
    assert "target of the search" not in shown
    found, free = (
        load_architecture(Path("run/architecture.yaml")),
        load_architecture(Path("free.yaml")),
    )
    assert found == free


def test_several_are_written_and_shown_by_rank(dcsnas: Command) -> None:
    code, shown, _ = dcsnas("derive", "run", "--top-k", "12")
    assert code == 0
    paths = sorted(Path("run/architectures").iterdir())
    assert [path.name for path in paths] == [f"{rank:02}.yaml" for rank in range(1, 13)]
    header, *rows = shown.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == [
        "file", "log10 p", "predicted ms", "params M", "GMACs", "activations M",
        "peak MB",
    ]  # fmt: skip
    files = [load_architecture(path) for path in paths]
    assert len({file.network.digest for file in files}) == 12
    for path, file, row in zip(paths, files, rows, strict=False):
        name, *numbers = row.split()
        assert name == path.name
        shown_values = [
            file.provenance.log10_probability, file.provenance.predicted_latency_ms,
            file.params / 1e6, file.macs / 1e9, file.activations / 1e6,
            (file.memory_bytes or 0) / 1e6,
        ]  # fmt: skip
        assert [float(number) for number in numbers] == pytest.approx(shown_values, abs=5e-4)
    assert rows[12:] == ["run/architectures: predicted at batch 1"]
    dcsnas("derive", "run")
    assert load_architecture(Path("run/architecture.yaml")) == files[0]


def test_fewer_than_asked_for_is_said(dcsnas: Command) -> None:
    _, shown, _ = dcsnas("derive", "run", "--top-k", "100", "--out", "all")
    assert len(list(Path("all").iterdir())) == 60
    assert shown.splitlines()[-1] == "100 were asked for; there are no more distinct networks"
    latencies = sorted(
        load_architecture(path).provenance.predicted_latency_ms or 0
        for path in Path("all").iterdir()
    )
    target = f"{latencies[2] * 1.0001:.6f}"
    _, shown, _ = dcsnas("derive", "run", "--top-k", "7", "--target-ms", target, "--out", "fastest")
    assert len(list(Path("fastest").iterdir())) == 3
    end = f"7 were asked for; there are no more distinct networks within {float(target):g} ms"
    assert shown.splitlines()[-1] == end


def files() -> dict[Path, int | None]:
    """Return what there is, and when each file was written."""
    paths = Path().rglob("*")
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in paths}


def refused(dcsnas: Command, *arguments: str) -> str:
    before = files()
    code, _, message = dcsnas("derive", *arguments)
    assert code == 2
    assert files() == before
    return message


@pytest.mark.parametrize("target", ["0", "-3", "nan", "inf"])
def test_a_target_that_is_no_time_is_refused(dcsnas: Command, target: str) -> None:
    message = refused(dcsnas, "run", "--target-ms", target)
    assert message == f"error: --target-ms {target}: expected milliseconds, a number above 0\n"


@pytest.mark.parametrize("count", ["0", "-1", "101"])
def test_a_count_out_of_range_is_refused(dcsnas: Command, count: str) -> None:
    message = refused(dcsnas, "run", "--top-k", count)
    assert message == f"error: --top-k {count}: expected a number from 1 to 100\n"


@pytest.mark.parametrize("option", ["--target-ms", "--top-k"])
def test_a_word_is_no_number(dcsnas: Command, option: str) -> None:
    assert f"Invalid value for '{option}'" in refused(dcsnas, "run", option, "fast")


@pytest.mark.parametrize("several", [(), ("--top-k", "3")])
def test_an_unreachable_target_leaves_nothing(dcsnas: Command, several: tuple[str, ...]) -> None:
    message = refused(dcsnas, "run", "--target-ms", "0.01", *several)
    assert message.startswith("error: target 0.01 ms: micro reaches ")
    low = re.findall(r"reaches (\S+) to \S+ ms", message)[0]
    assert dcsnas("derive", "run", "--target-ms", low)[0] == 0, "the named target can be given"


def test_files_of_an_earlier_call_are_not_mixed_with_new_ones(dcsnas: Command) -> None:
    dcsnas("derive", "run", "--top-k", "5")
    message = refused(dcsnas, "run", "--top-k", "3")
    assert message == ("error: run/architectures: is not empty; delete it or give another --out\n")
    message = refused(dcsnas, "run", "--top-k", "3", "--out", "run/config.yaml")
    assert message == "error: run/config.yaml: is a file; several architectures need a folder\n"


def test_a_folder_that_is_no_search_is_refused(dcsnas: Command) -> None:
    message = refused(dcsnas, ".", "--top-k", "2")
    assert "not a run folder; give the run folder of dcsnas search" in message


def test_weights_are_of_one_network_of_a_finished_search(dcsnas: Command) -> None:
    message = refused(dcsnas, "run", "--top-k", "2", "--weights", "w.safetensors")
    assert message == "error: --weights: is of one network; leave --top-k out\n"
    message = refused(dcsnas, "run", "--data", "people")
    assert message.startswith("error: --data: is for --weights, --best-of and --evolve;")
    content = {"space": "micro", "table": "t.json", "data": {"root": "people"}}
    aim(Path("run"), inputs={"data": "0"}, **content)
    message = refused(dcsnas, "run", "--weights", "w.safetensors")
    assert message == (
        "error: run/supernet.safetensors: no such file; weights can be derived when the search is "
        "over\n"
    )


def test_another_network_does_not_replace_the_first_unasked(dcsnas: Command) -> None:
    """Faults 15: a later derive --target-ms, and notes in a file of the user's own."""
    dcsnas("derive", "run")
    first = Path("run/architecture.yaml").read_bytes()
    assert dcsnas("derive", "run")[0] == 0, "the same network may be derived again"
    target = str(middle_ms(dcsnas))
    message = refused(dcsnas, "run", "--target-ms", target)
    assert message == (
        "error: run/architecture.yaml: exists already; give another --out, or --force to replace "
        "it\n"
    )
    assert dcsnas("derive", "run", "--target-ms", target, "--force")[0] == 0
    assert Path("run/architecture.yaml").read_bytes() != first
    Path("notes.txt").write_bytes(b"\xff my notes")
    assert "notes.txt: exists already" in refused(dcsnas, "run", "--out", "notes.txt")
    assert "--force: is of one network" in refused(dcsnas, "run", "--top-k", "2", "--force")


def test_what_takes_long_is_refused_before_it_begins(dcsnas: Command) -> None:
    """Siblings of faults 15: a score of several networks, and weights."""
    dcsnas("derive", "run")
    assert "run/architecture.yaml: exists" in refused(dcsnas, "run", "--best-of", "3")
    Path("w.safetensors").touch()
    assert "w.safetensors: exists" in refused(dcsnas, "run", "--weights", "w.safetensors")


def test_a_band_is_named(dcsnas: Command) -> None:
    """Wish 2."""
    target = str(1.3 * middle_ms(dcsnas))
    for name, percent in (("near", "2"), ("any", "100")):
        options = ("--target-ms", target, "--within-percent", percent, "--out", f"{name}.yaml")
        assert dcsnas("derive", "run", *options)[0] == 0
    near, any_ = (load_architecture(Path(f"{n}.yaml")).provenance for n in ("near", "any"))
    assert (near.predicted_latency_ms or 0) >= (any_.predicted_latency_ms or 0)
    message = refused(dcsnas, "run", "--target-ms", target, "--within-percent", "0")
    assert message.startswith("error: --within-percent 0: expected how far below the target")
