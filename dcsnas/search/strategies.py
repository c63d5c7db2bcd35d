"""The strategies that a search can use, by name: ours, NNI's own, and random search.

NNI's run on the same space, data and task. They have no latency term with a gradient (their penalty
is computed from plain numbers) and their optimiser state cannot be resumed (they list parameters in
no order), so an objective with a cost is refused and a stopped run starts over.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import nni.nas.strategy as stock
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.config.search import AddConfig, SearchConfig, TargetConfig
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.search.loop import FBNetV2Module
from dcsnas.search.objective import CostObjective
from dcsnas.search.strategy import FBNetV2
from dcsnas.spaces.space import SearchSpace

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
"""Both train random paths; NNI's exports any architecture, ours the best of several."""


def refuse_unused_cost(config: SearchConfig) -> None:
    """Raise UserError where a strategy is asked to take a cost into account that it cannot."""
    objective = config.objective
    if config.strategy in SOFTMAX or (isinstance(objective, AddConfig) and objective.weight == 0):
        return
    usable = "{form: add, weight: 0}"
    if config.strategy == "random":
        if isinstance(objective, TargetConfig) and objective.cost == "latency":
            return
        raise UserError(
            "strategy: random search takes no cost into account but a latency target; set objective "
            f"to {usable} or {{form: target, target: MS}}"
        )
    raise UserError(
        f"strategy: {config.strategy} has no cost term that reaches the architecture: NNI's "
        f"penalty is without a gradient; set objective to {usable}, or take fbnetv2 or darts"
    )


def make_strategy(config: SearchConfig, objective: CostObjective, latency: ExpectedCost) -> Any:
    """Return the NNI strategy that ``config`` names."""
    architecture, clip = config.architecture, config.run.gradient_clip
    if config.strategy in SOFTMAX:
        return FBNetV2(
            config=architecture,
            objective=objective,
            latency=latency,
            gradient_clip=clip,
            softmax=SOFTMAX[config.strategy],
        )
    if config.strategy in RANDOM_PATHS:
        return stock.RandomOneShot()
    return STOCK[config.strategy](
        arc_learning_rate=architecture.lr,
        gradient_clip_val=clip,
        warmup_epochs=architecture.warmup_epochs,
    )


def resumes(config: SearchConfig) -> bool:
    """Return whether a stopped search of this strategy can be continued."""
    return config.strategy in SOFTMAX


def current_probabilities(space: SearchSpace, module: Any) -> Probabilities:
    """Return the probabilities of every decision's options; equal ones of random paths."""
    if isinstance(module, FBNetV2Module):
        return {label: p.detach().tolist() for label, p in module.probabilities().items()}
    if not isinstance(module, DartsLightningModule):
        return {d.label: [1 / len(d.options)] * len(d.options) for d in space.decisions}
    exported = module.export_probs()
    return {d.label: [exported[d.label][o] for o in d.options] for d in space.decisions}


def certain(space: SearchSpace, choice: Mapping[str, Any]) -> Probabilities:
    """Return the probabilities under which ``choice`` is certain."""
    return {d.label: [float(o == choice[d.label]) for o in d.options] for d in space.decisions}
