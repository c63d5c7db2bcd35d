"""What is wrong is a UserError with the text of the commands, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dcsnas as dn
from latency_fakes import micro_space

SPACE = micro_space()


def test_mistakes_are_user_errors_with_the_usual_text(
    folder: Path, searched: dn.SearchRun, weights: dn.TrainedRun, tmp_path: Path
) -> None:
    config, arrays = folder / "search.yaml", np.zeros((2, 8, 8, 3))
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: dn.load_space("tinny"), "no search space called 'tinny'; shipped: "),
        (lambda: dn.load_space("tiny", attention="no"), "--attention no: .*none"),
        (lambda: dn.load_architecture(tmp_path / "a.yaml"), "a.yaml: no such file; check the path"),
        (lambda: dn.load_table(config), "search.yaml: not valid JSON"),
        (lambda: dn.profile(SPACE, backend="fast"), "'fast' is none of eager"),
        (lambda: dn.search("search_huge"), "no configuration called 'search_huge'; shipped: "),
        (lambda: dn.search(config, target_ms=0), "--target-ms 0: expected milliseconds, a number"),
        (lambda: dn.search(config, set=["epoch=3"]), "epoch: unknown key; did you mean 'epochs'?"),
        (lambda: dn.search({"space": "tiny"}), "configuration: table: missing; add this key"),
        (
            lambda: dn.search(config, table="t.json"),
            "t.json: no such latency table; check the path, or measure one",
        ),
        (lambda: dn.search(config), "or use the file anyway with --allow-foreign"),
        (lambda: dn.SearchRun(tmp_path).derive(), "not a run folder; give the run folder of"),
        (lambda: searched.derive(target_ms=1e-9), "give a target in that range"),
        (lambda: searched.derive(best_of=0), "--best-of 0: expected a number from 1 to 100"),
        (
            lambda: dn.train("retrain_tiny", SPACE.sample(), data=tmp_path),
            "no known layout; found none; give",
        ),
        (lambda: dn.load_weights(tmp_path / "w"), "w: no such file; give the .safetensors file"),
        (lambda: weights.evaluate(), "no config.yaml beside it that says on which data set; give"),
        (lambda: weights.evaluate(folder / "data", k=3), "is no rule for task 'reid'"),
        (
            lambda: weights.evaluate(folder / "data", variant={"cuhk": 1}),
            "variant.cuhk: unknown key",
        ),
        (lambda: weights.embed(tmp_path / "gone.jpg"), "gone.jpg: no such file; give"),
        (lambda: weights.embed([]), "no images are given; give files, folders"),
        (lambda: weights.embed(arrays), r"image 0: ndarray float64 \(8, 8, 3\): expected RGB"),
        (lambda: weights.embed(torch.zeros(8, 8, 3).byte()), r"Tensor .*\[3, H, W\]"),
        (lambda: weights.export(tmp_path), "is a folder; give the path of a file"),
        (lambda: dn.Model(nn.Flatten(), input=(4,)), r"the network in memory: input\[1\]: missing"),  # type: ignore[arg-type]
    ]
    before = sorted(folder.rglob("*")), sorted(tmp_path.rglob("*"))
    for mistake, message in mistakes:
        with pytest.raises(dn.UserError, match=message):
            mistake()
    assert (sorted(folder.rglob("*")), sorted(tmp_path.rglob("*"))) == before
