"""A search whose best network is known: layers are tables of what they are worth.

Every slot of a space becomes one table over its own options, concave in each of them, with an
interaction and random bumps; the score of a network is the sum of its slots' entries. Nothing is
trained on images, so a search takes seconds, and the best network within a cost limit follows
exactly from dynamic programming over the chain of slots. NNI's strategies and ours run on it as on
any space: slots are NNI declarations, their super-modules take draws of either policy.

Shapes: A decisions of a slot, O_a options of each; F networks of a front.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nni
import numpy as np
import torch
from nni.nas.evaluator.pytorch.lightning import Lightning, LightningModule, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import ModelSpace, ParametrizedModule
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning import LightningDataModule, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dcsnas.config.search import ReidSearchConfig
from dcsnas.config.stages import DataConfig, RunConfig
from dcsnas.search.supernet import MaskedOperation
from dcsnas.spaces.network import Operator, walk
from dcsnas.spaces.space import Choice, Decision, SearchSpace, Slot, walk_slots

Front = tuple[np.ndarray, np.ndarray]
"""Costs and scores."""
AXES = ("first", "second", "third")
"""Arguments of a slot in the order of its decisions: a block has three, others fewer."""
INTERACTION = 0.5
BUMPS = 0.05
"""Standard deviation of the random part of an entry; the concave part goes from 0 to 1."""
BATCH_NOISE = 0.15
"""Standard deviation of what a batch adds to an entry, as a share of the table's range."""


def steps_ms(operator: Operator) -> float:
    """Return the time of ``operator`` on a device that computes in steps of 8 channels."""
    steps = sum(-(-width // 8) for width in operator.layer.widths)
    return 0.02 + 5e-7 * operator.cost.macs + 0.002 * steps


@dataclass(frozen=True)
class Problem:
    """A space, what its networks cost, and the worth [O_1, ..., O_A] of every slot's options."""

    space: SearchSpace
    cost: Callable[[Operator], float]
    worths: tuple[np.ndarray, ...]
    """Scaled so that the worst network of the space has score ``low`` and the best ``low`` + 1."""
    low: float

    @classmethod
    def drawn(
        cls, space: SearchSpace, seed: int, cost: Callable[[Operator], float] = steps_ms
    ) -> "Problem":
        """Return a random problem."""
        rng = np.random.default_rng(seed)
        raw = cls(space, cost, tuple(_worth(slot, rng) for slot in space.slots), 0.0)
        best = raw.front[1].max()
        worst = -cls(space, cost, tuple(-worth for worth in raw.worths), 0.0).front[1].max()
        scaled = tuple(worth / (best - worst) for worth in raw.worths)
        return cls(space, cost, scaled, float(worst / (best - worst)))

    def score(self, choice: Choice) -> float:
        """Return how good a network is: 0 is the worst of the space, 1 the best."""
        total = 0.0
        for slot, worth in zip(self.space.slots, self.worths, strict=True):
            index = tuple(d.options.index(choice[d.label]) for d in slot.decided.values())
            total += worth[index].item()
        return total - self.low

    def best_within(self, budget: float) -> float:
        """Return the highest score of the networks that cost at most ``budget``."""
        cost, score = self.front
        return float(score[np.searchsorted(cost, budget * (1 + 1e-12), "right") - 1])

    def as_seen(self, batches: int, seed: int) -> "Problem":
        """Return the problem as the mean of ``batches`` batches shows it."""
        rng = np.random.default_rng(seed)
        seen = [
            worth + np.ptp(worth) * BATCH_NOISE / batches**0.5 * rng.normal(size=worth.shape)
            for worth in self.worths
        ]
        return replace(self, worths=tuple(seen))

    def latency(self, choice: Choice) -> float:
        """Return what a network costs."""
        layers = self.space.architecture(choice).layers
        return sum(self.cost(operator) for operator in walk(layers, self.space.size))

    @cached_property
    def front(self) -> Front:
        """Return costs and scores [F] of the networks that none beats in both, by cost.

        Paths grow slot by slot; at each width that lies open between two slots those are dropped
        that cost no less and are worth no more than another. Exact, as both add up.
        """
        paths: dict[Any, Front] = {None: (np.zeros(1), np.zeros(1))}  # by the open option
        opened: Decision | None = None
        walked = list(walk_slots(self.space, self.space.size))
        for position, ((slot, variants), worth) in enumerate(
            zip(walked, self.worths, strict=True), start=1
        ):
            later = {d for next_slot, _ in walked[position:] for d in next_slot.decided.values()}
            decided = list(slot.decided.values())
            leaving = next((d for d in decided if d in later), None)
            grown: dict[Any, list[Front]] = {}
            for index, operator in variants:
                picked = dict(zip(decided, index, strict=True))
                cost, score = paths[picked[opened] if opened else None]
                cost, score = cost + self.cost(operator), score + worth[index]
                grown.setdefault(picked[leaving] if leaving else None, []).append((cost, score))
            paths = {key: _undominated(parts) for key, parts in grown.items()}
            opened = leaving
        cost, score = paths[None]
        return cost, score - self.low


def _worth(slot: Slot, rng: np.random.Generator) -> np.ndarray:
    """Return a table that rises ever more slowly along each axis, with an interaction and bumps."""
    shape = [len(decision.options) for decision in slot.decided.values()]
    if not shape:
        return np.zeros(())
    rises = []
    for axis, size in enumerate(shape):
        place = np.linspace(0, 1, size)
        rate = rng.uniform(1, 4)
        rise = (1 - np.exp(-rate * place)) / (1 - np.exp(-rate))
        rises.append(rise.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    shares = rng.dirichlet(np.ones(len(shape)))
    concave = sum(share * rise for share, rise in zip(shares, rises, strict=True))
    together = np.prod(np.broadcast_arrays(*rises), axis=0)
    worth = (1 - INTERACTION) * concave + INTERACTION * together
    return rng.uniform(0.5, 1.5) * (worth + BUMPS * rng.normal(size=shape))


def _undominated(parts: list[Front]) -> Front:
    cost, score = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((-score, cost))
    cost, score = cost[order], score[order]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(score)[:-1]])
    return cost[score > best_before], score[score > best_before]


class Worth(nn.Module):
    """One slot of one network: returns its entry, as far as ``skill`` has been trained to 1."""

    table: Tensor

    def __init__(
        self,
        table: Tensor,
        options: tuple[tuple[Any, ...], ...],
        first: Any = None,
        second: Any = None,
        third: Any = None,
    ) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)
        chosen = (first, second, third)[: len(options)]
        self.index = tuple(o.index(value) for o, value in zip(options, chosen, strict=True))
        self.skill = nn.Parameter(torch.zeros(()))

    def forward(self, draws: torch.Generator) -> Tensor:
        """Return what the slot is worth on a batch, whose noise comes from ``draws``."""
        return self.noisy(draws)[self.index] * self.learnt

    def noisy(self, draws: torch.Generator) -> Tensor:
        """Return the table as a batch shows it."""
        spread = BATCH_NOISE * (self.table.max() - self.table.min())
        return self.table + spread * torch.randn(self.table.shape, generator=draws)

    @property
    def learnt(self) -> Tensor:
        """The share of the table that the weights bring out: 1 at best."""
        return 1 - (1 - self.skill) ** 2


class SearchableWorth(ParametrizedModule, Worth, wraps=Worth):
    """A slot whose options may be NNI choices."""


class MixedWorth(MaskedOperation, Worth):
    """All options of a slot: the expectation of the table under a draw."""

    bound_type = SearchableWorth
    plain_type = Worth
    argument_list = list(AXES)  # noqa: RUF012 (NNI's protocol)

    def forward_with_args(self, first: Any, second: Any, third: Any, draws: Any) -> Tensor:
        """Return the expected worth under the given probabilities or choices."""
        expected = self.noisy(draws)
        given = dict(zip(AXES, (first, second, third), strict=True))
        for name in list(AXES[: expected.ndim])[::-1]:
            expected = expected @ self.probabilities(name, given[name])
        return expected * self.learnt


class WorthSupernet(ModelSpace):
    """A problem's space for NNI; maps a generator of noise to what a network is worth."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        space = problem.space
        choices = {d.label: nni.choice(d.label, list(d.options)) for d in space.decisions}
        layers = []
        for slot, worth in zip(space.slots, problem.worths, strict=True):
            decided = list(slot.decided.values())
            if decided:
                arguments = {a: choices[d.label] for a, d in zip(AXES, decided, strict=False)}
                table = torch.tensor(worth, dtype=torch.float32)
                options = tuple(decision.options for decision in decided)
                layers.append(SearchableWorth(table=table, options=options, **arguments))
        self.layers = nn.ModuleList(layers)

    def extra_oneshot_hooks(self, strategy: object) -> list[Any]:
        """Return the hook that makes super-modules, for any NNI strategy."""
        return [MixedWorth.mutate]

    def forward(self, draws: torch.Generator) -> Tensor:
        """Return the score of a batch."""
        return torch.stack([layer(draws) for layer in self.layers]).sum()


class WorthTask(LightningModule):
    """The evaluator's module: the loss is what a network lacks to the best of the space."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        data, run = DataConfig(root=Path(".")), RunConfig(seed=seed)
        self.config = ReidSearchConfig(space="", table=Path("."), data=data, run=run)
        self.draws = torch.Generator().manual_seed(seed)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch of either phase, for NNI's strategies."""
        return self.step(batch, batch_idx, "weights")

    def step(self, batch: Any, index: int, phase: str) -> Tensor:
        """Return the loss of a batch of either phase, for ours."""
        return 1 - self.model(self.draws)

    def configure_optimizers(self) -> Any:
        """Return the weights' optimiser."""
        return {"optimizer": torch.optim.Adam(self.parameters(), 0.1)}


class Steps(list):
    """The batches of an epoch: nothing but their number matters."""

    @property
    def sampler(self) -> "Steps":
        """Return what an epoch is set on."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: noise is drawn anew in every step."""


class Parts(LightningDataModule):
    """Both parts of a split; the weights need few batches, there is one of them in a layer."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weights, self.architecture = _batches(-(-steps // 5)), _batches(steps)

    def train_dataloader(self) -> Any:
        """Return the weights' part."""
        return self.weights

    def val_dataloader(self) -> Any:
        """Return the architecture's part."""
        return self.architecture


def _batches(count: int) -> Any:
    batches: Any = Steps([[0]] * count)
    return DataLoader(torch.zeros(1), batch_sampler=batches)  # type: ignore[arg-type]


def run_strategy(strategy: Any, problem: Problem, *, seed: int, epochs: int, steps: int) -> None:
    """Search ``problem`` with ``strategy``: ``epochs`` of ``steps`` architecture steps."""
    seed_everything(seed, verbose=False)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    evaluator = Lightning(WorthTask(seed), trainer, datamodule=Parts(steps))
    supernet: Any = WorthSupernet(problem)
    strategy(RawFormatModelSpace(supernet, evaluator), SequentialExecutionEngine())
