"""What the tests of commands that end with a message share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import run_here

from dcsnas.cli.main import run
from dcsnas.latency.table import save_table
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

SPACE = micro_space()


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space and its table as it was measured here, to copy."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "micro.yaml").write_text(yaml.safe_dump(SPACE.file.model_dump(mode="json")))
    output = run_here(folder, "profile", "micro.yaml", "--rounds", "2", "--out", "table.json")
    assert "entries in table.json" in output
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with configurations, a space, a table and a data set."""
    monkeypatch.chdir(tmp_path)
    write_reid_set(Path("people"), identities=4)
    Path("space.yaml").write_text(yaml.safe_dump(SPACE.file.model_dump(mode="json")))
    table = fake_table(SPACE)
    save_table(Path("table.json"), table.file)
    save_architecture(
        Path("large.yaml"), architecture_of(SPACE, largest_choice(SPACE), table=table, seed=0)
    )
    save_architecture(
        Path("small.yaml"), architecture_of(SPACE, smallest_choice(SPACE), table=table, seed=0)
    )
    batch = {"identities": 2, "images": 2}
    search = {
        "space": "space.yaml", "table": "table.json", "data": {"root": "people", "workers": 0},
        "epochs": 1, "batch": batch, "augment": {"pad": 0},
    }  # fmt: skip
    retrain = {key: search[key] for key in ("data", "epochs", "batch", "augment")}
    Path("search.yaml").write_text(yaml.safe_dump(search))
    Path("retrain.yaml").write_text(yaml.safe_dump(retrain))
    return tmp_path


@pytest.fixture
def dcsnas_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Callable[..., str]]:
    """Return what makes, of a folder and first arguments, a function that runs ``dcsnas`` there.

    That takes further arguments and the exit code that is expected, and gives what was printed:
    to stderr where the code is not 0.
    """

    def make(folder: Path, *first: str) -> Callable[..., str]:
        monkeypatch.chdir(folder)

        def call(*arguments: str, code: int = 0) -> str:
            monkeypatch.setattr("sys.argv", ["dcsnas", *first, *arguments])
            with pytest.raises(SystemExit) as stop:
                run()
            assert (stop.value.code or 0) == code
            captured = capsys.readouterr()
            assert "Traceback" not in captured.err
            return captured.err if code else captured.out

        return call

    return make
