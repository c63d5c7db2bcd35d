"""The FBNetV2 strategy for NNI: what the stock differentiable strategies lack.

Against NNI's GumbelDARTS: one draw per decision and step (``sampling``); a latency term with a
gradient; one pass over each part of the split per epoch, in turn, instead of both in every step;
weights held in the architecture phase; mask parameters of DCS-Attention trained with the
architecture parameters; a cosine schedule for both; a stable order of parameters, so that a
resumed optimiser finds its own state; the temperature as a function of progress.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from nni.nas.strategy import DARTS
from torch import Tensor, nn

from dcsnas.config.stages import ArchitectureConfig, ObjectiveConfig
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.nn.attention import DCSAttention
from dcsnas.search.sampling import SharedSamplePolicy
from dcsnas.search.task import SearchTask
from dcsnas.training.fitting import progress_of
from dcsnas.training.schedules import cosine, exponential


class PhaseLoader:
    """One epoch: every batch for the weights, then every batch for the architecture.

    Yields ``{"train": batch}`` and ``{"val": batch}``, NNI's names for the two parts.
    """

    def __init__(self, weights: Any, architecture: Any) -> None:
        self.weights = weights
        self.architecture = architecture

    def __len__(self) -> int:
        return len(self.weights) + len(self.architecture)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.weights:
            yield {"train": batch}
        for batch in self.architecture:
            yield {"val": batch}

    @property
    def sampler(self) -> "PhaseLoader":
        """The object whose ``set_epoch`` Lightning calls: this one."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of the next pass over both parts."""
        for loader in (self.weights, self.architecture):
            loader.batch_sampler.set_epoch(epoch)


@contextmanager
def held(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep ``parameters`` out of the gradient computation inside the block."""
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class FBNetV2Module(DartsLightningModule):
    """The search loop: weight steps and architecture steps on a shared draw."""

    def __init__(
        self,
        training_module: SearchTask,
        *,
        config: ArchitectureConfig,
        objective: ObjectiveConfig,
        latency: ExpectedCost,
        gradient_clip: float | None,
    ) -> None:
        super().__init__(
            training_module,
            arc_learning_rate=config.lr,
            gradient_clip_val=gradient_clip,
            warmup_epochs=config.warmup_epochs,
        )
        self.training_module: SearchTask
        self.config = config
        self.objective = objective
        self.latency = latency
        self.reference_ms: Tensor
        self.register_buffer("reference_ms", torch.tensor(objective.reference_ms or 0.0))

    def choice_parameters(self) -> dict[str, nn.Parameter]:
        """Return the architecture parameters by decision label, in network order."""
        found: dict[str, nn.Parameter] = {}
        for module in self.supernet_modules():
            alphas: Any = getattr(module, "_arch_alpha", {})
            for label, alpha in alphas.items():
                found.setdefault(label, alpha)
        return found

    def arch_parameters(self) -> list[nn.Parameter]:
        """Return what the architecture phase trains: choices, then attention masks, in order."""
        attentions = [m for m in self.modules() if isinstance(m, DCSAttention)]
        thetas = [p for m in attentions if m.theta is not None for p in m.theta.parameters()]
        return [*self.choice_parameters().values(), *thetas]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return everything else."""
        chosen = {id(p) for p in self.arch_parameters()}
        return [p for p in self.parameters() if id(p) not in chosen]

    def probabilities(self) -> dict[str, Tensor]:
        """Return the probabilities of every decision's options, without noise."""
        return {label: alpha.softmax(-1) for label, alpha in self.choice_parameters().items()}

    def expected_latency_ms(self) -> Tensor:
        """Return the exact expected latency under the current probabilities."""
        return self.latency(self.probabilities())

    def on_fit_start(self) -> None:
        """Fix the reference that the latency term is measured in."""
        if not self.reference_ms:
            self.reference_ms.copy_(self.expected_latency_ms().detach())
        super().on_fit_start()

    def on_train_epoch_start(self) -> None:
        """Pass the hook on; NNI's own freezing by epoch is replaced by ``held``."""
        self.training_module.on_train_epoch_start()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Run one step of the phase that ``batch`` belongs to."""
        progress = self._architecture_progress(progress_of(self.trainer, batch_idx))
        temperature = self._anneal(progress)
        loss = None
        if "train" in batch:
            with held(self.arch_parameters()):
                self.resample()
                loss = self.training_module.training_step(batch["train"], 2 * batch_idx + 1)
                self.advance_optimization(loss, batch_idx, self.gradient_clip_val)
        elif self.trainer.current_epoch >= self.warmup_epochs:
            loss = self._architecture_step(batch["val"], batch_idx, progress)
            self.log("temperature", temperature, on_step=False, on_epoch=True, batch_size=1)
        self.advance_lr_schedulers(batch_idx)
        return None if loss is None else loss.detach()

    def _architecture_step(self, batch: Any, batch_idx: int, progress: float) -> Tensor:
        optimizer: Any = self.architecture_optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * cosine(progress)
        with held(self.weight_parameters()):
            self.resample()
            loss = self.training_module.training_step(batch, 2 * batch_idx)
            latency_ms = self.expected_latency_ms()
            term = self.objective.latency_weight * latency_ms / self.reference_ms
            optimizer.zero_grad()
            self.manual_backward(loss + term)
        optimizer.step()
        for name, value in (("expected_latency_ms", latency_ms), ("latency_term", term)):
            self.log(name, value.detach(), on_step=False, on_epoch=True, batch_size=1)
        return loss + term

    def _architecture_progress(self, progress: float) -> float:
        """Return the share of the epochs after the warm-up that is over."""
        assert self.trainer.max_epochs
        warmup = self.warmup_epochs / self.trainer.max_epochs
        return max(0.0, (progress - warmup) / (1 - warmup))

    def _anneal(self, progress: float) -> float:
        start, end = self.config.temperature, self.config.final_temperature
        temperature = exponential(start, end, progress)
        for module in self.modules():
            if isinstance(module, GumbelSoftmax):
                module.tau = temperature  # type: ignore[assignment]
        return temperature

    def configure_architecture_optimizers(self) -> torch.optim.Adam:
        """Return Adam over choices and masks."""
        config = self.config
        return torch.optim.Adam(self.arch_parameters(), config.lr, weight_decay=config.weight_decay)

    def configure_optimizers(self) -> Any:
        """Return both optimisers; the architecture's rate is set in its own steps."""
        weights: Any = self.training_module.configure_optimizers()
        self.postprocess_weight_optimizers(weights["optimizer"])
        architecture: Any = self.configure_architecture_optimizers()
        architecture.is_arch_optimizer = True
        return [weights, {"optimizer": architecture}]


class FBNetV2(DARTS):
    """FBNetV2's differentiable search as an NNI strategy.

    ``softmax`` makes the relaxed draw: Gumbel-softmax for FBNetV2, plain softmax for DARTS.
    """

    def __init__(
        self,
        *,
        config: ArchitectureConfig,
        objective: ObjectiveConfig,
        latency: ExpectedCost,
        gradient_clip: float | None = None,
        softmax: Callable[[], nn.Module] = GumbelSoftmax,
    ) -> None:
        super().__init__()
        self.config = config
        self.objective = objective
        self.latency = latency
        self.gradient_clip = gradient_clip
        self.softmax = softmax

    def configure_softmax(self) -> nn.Module:
        """Return the module that turns architecture parameters into a draw."""
        return self.softmax()

    def configure_oneshot_module(self, training_module: Any) -> FBNetV2Module:
        """Wrap the evaluator's module into the search loop."""
        return FBNetV2Module(
            training_module,
            config=self.config,
            objective=self.objective,
            latency=self.latency,
            gradient_clip=self.gradient_clip,
        )

    def run_hook(self, hook: Any, name: str, module: nn.Module, memo: dict[str, Any]) -> Any:
        """Give every super-module the shared sampling policy."""
        memo.update(self._arch_parameters)
        kwargs = {"mixed_op_sampling": SharedSamplePolicy, "softmax": self.configure_softmax()}
        return hook(module, name, memo, kwargs)

    def train_dataloader(self, train_dataloader_fn: Any, val_dataloader_fn: Any) -> Any:
        """Return the two parts of the split, one after the other."""
        return PhaseLoader(train_dataloader_fn(), val_dataloader_fn())
