"""The stages on a GPU: a search and a retraining end, and what they make is the same elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import AddConfig, ArchitectureConfig
from dcsnas.data.loading import ImageSet, make_loader
from dcsnas.data.reid import Sample
from dcsnas.deployment.embedding import Embedder
from dcsnas.deployment.export import export_onnx
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.nn.weights import read_state
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.derive import derive
from dcsnas.search.fbnetv2 import FBNetV2
from dcsnas.search.run import search
from dcsnas.search.supernet import Supernet
from dcsnas.spaces.space import SearchSpace
from outcome_setup import EVERYTHING, run
from reid_data import SIZE, write_reid_set
from search_setup import small_search, write_search_inputs

pytestmark = pytest.mark.gpu

ON_GPU = {"device": "cuda", "precision": "bf16-mixed"}


def finite(tensors: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weights of a retraining in bfloat16 with everything that it can be told to do."""
    root = tmp_path_factory.mktemp("retrain")
    write_reid_set(root / "people", identities=12, images=6)
    data = {"root": str(root / "people"), "workers": 2}
    changes: dict[str, Any] = {**EVERYTHING, "data": data, "run": ON_GPU}
    return run(root, "trained", **changes).weights


@pytest.mark.parametrize(("strategy", "weight"), [("fbnetv2", 0.1), ("darts", 0.1), ("random", 0)])
def test_a_search_in_bfloat16_ends_with_finite_weights_on_the_host(
    tmp_path, strategy, weight
) -> None:
    folder, out = write_search_inputs(tmp_path), RunFolder(tmp_path / "run")
    changes = {"strategy": strategy, "objective": {"form": "add", "weight": weight}}
    config = small_search(folder, **changes, run={**ON_GPU, "gradient_clip": 5.0})
    search(config, out, allow_foreign=True, progress=False)
    assert finite(read_state(out.path / "supernet.safetensors"))
    assert len(read_records(out.metrics)) == 4
    predicted = derive(out.path).provenance.predicted_latency_ms
    assert predicted is not None
    assert predicted > 0


class Stop(RuntimeError):
    """Ends a search."""


class Stopper(Callback):
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End after two epochs."""
        if trainer.current_epoch == 2:
            raise Stop


def test_a_search_goes_on_from_its_checkpoint(tmp_path) -> None:
    folder, out = write_search_inputs(tmp_path), RunFolder(tmp_path / "run")

    config = small_search(folder, run=ON_GPU)
    with pytest.raises(Stop):
        search(config, out, allow_foreign=True, progress=False, callbacks=[Stopper()])
    assert len(read_records(out.metrics)) == 2
    search(config, out, allow_foreign=True, progress=False)
    assert [record["epoch"] for record in read_records(out.metrics)] == [0, 1, 2, 3]


def test_a_weight_step_of_the_supernet_waits_for_the_gpu_nowhere() -> None:
    space = SearchSpace.named("tiny")
    cost = ExpectedCost(space, space.size, lambda operator: operator.cost.macs)
    objective = CostObjective(AddConfig(form="add"), cost)
    strategy = FBNetV2(config=ArchitectureConfig(), objective=objective)
    supernet: Any = Supernet(space)
    strategy.mutate_model(supernet)
    module: Any = strategy.configure_oneshot_module(supernet).cuda()
    images = torch.randn(4, 3, *space.size, device="cuda")
    for mode in ("default", "error"):  # first, libraries set themselves up
        torch.cuda.set_sync_debug_mode(mode)
        try:
            module.resample()
            with torch.autocast("cuda", torch.bfloat16):
                loss = supernet(images).square().mean()
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


def test_batches_are_pinned(tmp_path) -> None:
    root = write_reid_set(tmp_path / "people")
    files = sorted((root / "bounding_box_train").iterdir())
    images = ImageSet([Sample(file, identity=0, camera=0) for file in files], SIZE)
    for workers in (0, 1):
        batch = next(iter(make_loader(images, batch_size=4, workers=workers, seed=0)))
        assert all(tensor.is_pinned() for tensor in batch)
        there = batch.images.to("cuda", non_blocking=True)
        assert torch.equal(there.cpu(), batch.images)


def test_features_of_trained_weights_are_those_of_the_cpu(trained: Path) -> None:
    images = sorted((trained.parents[1] / "people" / "query").iterdir())
    assert finite(read_state(trained))
    here, there = (Embedder(trained, device=device).embed(images) for device in ("cpu", "cuda"))
    similarity = (torch.as_tensor(here) * torch.as_tensor(there)).sum(1)  # of unit length
    assert similarity.min() > 0.999


def test_what_runs_on_a_gpu_is_exported_and_goes_on_running_there(trained: Path, tmp_path) -> None:
    images = sorted((trained.parents[1] / "people" / "query").iterdir())
    used = load_reid_network(trained)
    embedder = Embedder(used, device="cuda")
    before = embedder.embed(images)
    exported = export_onnx(used, tmp_path / "model.onnx")
    assert max(one.features for one in exported.differences) < 1e-4
    assert torch.allclose(torch.as_tensor(embedder.embed(images)), torch.as_tensor(before))
