"""Random search: how many networks it draws, where, and that the best of them is taken."""

import json
import random
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.data.loading import ImageSet
from dcsnas.latency.table import predict_ms
from dcsnas.search.derive import derive
from dcsnas.search.random_search import random_choices
from dcsnas.search.registry import RandomPaths
from dcsnas.search.run import search
from dcsnas.search.supernet import Supernet
from dcsnas.search.validation import Validator
from latency_fakes import fake_table, micro_space
from search_setup import small_search, write_search_inputs
from supernet_fakes import operations

SPACE = micro_space()
TABLE = fake_table(SPACE)
NO_COST = {"form": "add", "weight": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table and a data set."""
    return write_search_inputs(tmp_path_factory.mktemp("random"))


def run(folder: Path, name: str, **changes: Any) -> RunFolder:
    run_folder = RunFolder(folder / name)
    config = small_search(folder, strategy="random", **changes)
    search(config, run_folder, allow_foreign=True, progress=False)
    return run_folder


def test_random_takes_the_best_of_as_many_networks_as_there_were_epochs(folder: Path) -> None:
    done = run(folder, "free", objective=NO_COST)
    networks = json.loads((done.path / "random.json").read_text())["networks"]
    assert len(networks) == 3, "four epochs, of which one is warm-up"
    assert [n["choice"] for n in networks] == random_choices(
        small_search(folder, strategy="random", objective=NO_COST), SPACE, TABLE
    )
    best = max(networks, key=lambda n: n["map"])
    assert json.loads((done.path / "result.json").read_text())["map"] == best["map"]
    origin = derive(done.path).provenance
    assert origin.choice == best["choice"]
    assert origin.log10_probability == 0.0


def test_random_draws_depend_on_the_seed_alone(folder: Path) -> None:
    def drawn(seed: int) -> list[Any]:
        config = small_search(folder, strategy="random", objective=NO_COST, run={"seed": seed})
        return random_choices(config, SPACE, TABLE)

    assert drawn(3) == drawn(3) != drawn(4)


def test_random_with_a_target_draws_networks_at_that_latency(folder: Path) -> None:
    target = 0.24
    done = run(folder, "at", objective={"form": "target", "target": target})
    networks = json.loads((done.path / "random.json").read_text())["networks"]
    for network in networks:
        layers = SPACE.architecture(network["choice"]).layers
        assert predict_ms(TABLE, layers, SPACE.size) == pytest.approx(target, rel=0.01)
    found = derive(done.path).provenance
    assert found.predicted_latency_ms == pytest.approx(target, rel=0.01)
    assert found.target_ms is None, "it may be above the target by 1 %"


def test_random_at_a_latency_that_no_network_has_is_refused_before_training(folder: Path) -> None:
    rows = product(*(d.options for d in SPACE.decisions))
    labels = [d.label for d in SPACE.decisions]
    choices = [dict(zip(labels, row, strict=True)) for row in rows]
    times = sorted(predict_ms(TABLE, SPACE.architecture(c).layers, SPACE.size) for c in choices)
    _, low, high = max((b / a, a, b) for a, b in pairwise(times))
    assert high / low > 1.021, "no gap in the micro space is wide enough"
    with pytest.raises(UserError, match=r"no architecture of micro found within 1% of"):
        run(folder, "gap", objective={"form": "target", "target": (low + high) / 2})
    assert not (folder / "gap").exists()


def test_the_architectures_part_is_read_to_score_networks_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNI's random paths would run it through a validation step that computes nothing."""
    decoded: list[ImageSet] = []
    read = ImageSet.__getitem__
    monkeypatch.setattr(
        ImageSet, "__getitem__", lambda self, i: decoded.append(self) or read(self, i)
    )
    monkeypatch.setattr(Validator, "score", lambda *_: 1.0)
    run(folder, "read", objective=NO_COST)
    assert len({id(images) for images in decoded}) == 1


def drawn_paths(seed: int, count: int) -> list[dict[str, Any]]:
    """Return the paths that a supernet under the strategy takes, as NNI's module draws them."""
    supernet: Any = Supernet(SPACE)
    RandomPaths(random.Random(seed)).mutate_model(supernet)
    found = []
    for _ in range(count):
        memo: dict[str, Any] = {}
        for operation in operations(supernet):
            memo |= operation.resample(memo)
        supernet(torch.randn(2, 3, *SPACE.size))
        for operation in operations(supernet):
            for name, choice in operation.mutable_arguments.items():
                assert (
                    operation.sampling_policy.forward_argument(operation, name)
                    == (memo[choice.label])
                ), "every layer takes the same width"
        found.append(memo)
    return found


def test_paths_are_uniform_shared_and_follow_from_the_seed() -> None:
    paths = drawn_paths(0, 600)
    for decision in SPACE.decisions:
        counts = [sum(path[decision.label] == o for path in paths) for o in decision.options]
        expected = 600 / len(decision.options)
        assert all(abs(n - expected) < 4 * expected**0.5 for n in counts), decision
    assert drawn_paths(0, 5) == paths[:5] != drawn_paths(1, 5)
