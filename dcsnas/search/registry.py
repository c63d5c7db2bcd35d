"""The strategies that a search can use, by name: ours, NNI's own, and random search.

NNI's run on the same space, data and task. They have no latency term with a gradient (their penalty
is computed from plain numbers), their optimiser state cannot be resumed (they list parameters in no
order) and each process would draw its own networks, so an objective with a cost and several
processes are refused and a stopped run starts over.
"""

import random
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import nni.nas.strategy as stock
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from nni.nas.oneshot.pytorch.supermodule.operation import MixedOperation
from nni.nas.oneshot.pytorch.supermodule.sampling import MixedOpPathSamplingPolicy
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.config.search import SearchConfig
from dcsnas.search.cost_terms import CostObjective, cost_form, target_of
from dcsnas.search.fbnetv2 import FBNetV2
from dcsnas.search.loop import choice_parameters
from dcsnas.spaces.space import Choice, Option, SearchSpace
from dcsnas.training.processes import Process

Probabilities = dict[str, list[float]]

SOFTMAX: dict[str, Callable[[], nn.Module]] = {
    "fbnetv2": GumbelSoftmax,
    "darts": partial(nn.Softmax, dim=-1),
}
STOCK: dict[str, Callable[..., Any]] = {
    "nni_darts": stock.DARTS,
    "nni_gumbel_darts": stock.GumbelDARTS,
    "nni_proxyless": stock.Proxyless,
}
RANDOM_PATHS = ("nni_random_oneshot", "random")
"""Both train random paths; NNI's ends with any architecture, ours with the best of several."""


def refuse_unused_cost(config: SearchConfig) -> None:
    """Raise UserError where a strategy is asked to take a cost into account that it cannot."""
    objective = config.objective
    if config.strategy in SOFTMAX or cost_form(objective).is_free(objective):
        return
    usable = "{form: add, weight: 0}"
    if config.strategy == "random":
        if any(target_of(objective, cost) is not None for cost in ("latency", "memory")):
            return
        raise UserError(
            "strategy: random search takes no cost into account but a target of latency or memory; "
            f"set objective to {usable}, {{form: target, target: MS}} or {{form: target, cost: "
            "memory, target: MB}"
        )
    raise UserError(
        f"strategy: {config.strategy} has no cost term that reaches the architecture: NNI's "
        f"penalty is without a gradient; set objective to {usable}, or take fbnetv2 or darts"
    )


def refuse_processes(config: SearchConfig, process: Process) -> None:
    """Raise UserError where processes that train together would draw different networks."""
    if config.strategy.startswith("nni_") and process.world_size > 1:
        raise UserError(
            f"strategy: {config.strategy} runs in one process, because NNI draws anew in each, and "
            f"this run has {process.world_size}; set run.devices to 1 and start it without "
            "torchrun, or take fbnetv2, darts or random"
        )


def make_strategy(config: SearchConfig, objective: CostObjective) -> Any:
    """Return the NNI strategy that ``config`` names."""
    architecture, clip = config.architecture, config.run.gradient_clip
    if config.strategy in SOFTMAX:
        return FBNetV2(
            config=architecture,
            objective=objective,
            gradient_clip=clip,
            softmax=SOFTMAX[config.strategy],
        )
    if config.strategy in RANDOM_PATHS:
        return RandomPaths(random.Random(config.run.seed))
    return STOCK[config.strategy](
        arc_learning_rate=architecture.lr,
        gradient_clip_val=clip,
        warmup_epochs=architecture.warmup_epochs,
    )


class SeededPathPolicy(MixedOpPathSamplingPolicy):
    """NNI's uniform paths, drawn from the strategy's generator; NNI asks the system's."""

    def __init__(
        self, operation: MixedOperation, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> None:
        super().__init__(operation, memo, mutate_kwargs)
        self.rng: random.Random = mutate_kwargs["rng"]

    def resample(self, operation: MixedOperation, memo: dict[str, Any]) -> dict[str, Any]:
        """Draw every label of ``operation`` that ``memo`` does not hold yet."""
        return super().resample(operation, {**self._drawn(operation, memo), **memo})

    def export(self, operation: MixedOperation, memo: dict[str, Any]) -> dict[str, Any]:
        """Return another draw of the labels that ``memo`` does not hold yet."""
        return self._drawn(operation, memo)

    def _drawn(self, operation: MixedOperation, memo: dict[str, Any]) -> dict[str, Any]:
        choices: dict[str, Any] = operation.simplify()
        return {n: self.rng.choice(c.values) for n, c in choices.items() if n not in memo}


class RandomPaths(stock.RandomOneShot):
    """NNI's RandomOneShot, whose paths follow from ``rng``."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    def run_hook(self, hook: Any, name: str, module: nn.Module, memo: dict[str, Any]) -> Any:
        """Give every super-module the seeded policy."""
        return hook(module, name, memo, {"mixed_op_sampling": SeededPathPolicy, "rng": self.rng})


def any_choice(strategy: Any) -> dict[str, Option]:
    """Return what NNI exports of random paths: any choice, of which it warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Direct export from RandomOneShot")
        return dict(next(strategy.list_models(limit=1)).sample)


def resumes(config: SearchConfig) -> bool:
    """Return whether a stopped search of this strategy can be continued."""
    return config.strategy in SOFTMAX


def current_probabilities(space: SearchSpace, module: Any) -> Probabilities:
    """Return the probabilities of every decision's options; equal ones of random paths.

    NNI's own export adds Gumbel noise where the strategy draws it.
    """
    alphas = choice_parameters(module)
    if not alphas:
        return {d.label: [1 / len(d.options)] * len(d.options) for d in space.decisions}
    return {d.label: alphas[d.label].detach().softmax(-1).tolist() for d in space.decisions}


def one_hot(space: SearchSpace, choice: Choice) -> Probabilities:
    """Return the probabilities under which ``choice`` is certain."""
    return {d.label: [float(o == choice[d.label]) for o in d.options] for d in space.decisions}
