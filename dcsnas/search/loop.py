"""The search loop of the FBNetV2 strategy: weight steps, architecture steps, what they log."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from nni.nas.evaluator.pytorch.lightning import LightningModule as EvaluatorModule
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from dcsnas.config.search import ArchitectureConfig
from dcsnas.data.loading import Batch
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.search.cost_terms import LOGGED, CostObjective
from dcsnas.search.sampling import SharedSamplePolicy
from dcsnas.training.module import TaskModule
from dcsnas.training.optimizers import SharedAdam, cosine, exponential
from dcsnas.training.trainer import SHARED_STREAM, epoch_seed, progress_of


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep ``parameters`` out of the gradient computation inside the block."""
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def choice_parameters(module: Any) -> dict[str, nn.Parameter]:
    """Return the architecture parameters of a module of NNI's by decision label, in network order.

    Random paths have none.
    """
    found: dict[str, nn.Parameter] = {}
    for operation in module.supernet_modules():
        alphas: Any = getattr(operation, "_arch_alpha", {})
        for label, alpha in alphas.items():
            found.setdefault(label, alpha)
    return found


class SearchModule(TaskModule, EvaluatorModule):
    """The task's module as NNI's evaluator takes it: NNI sets the supernet, its network's backbone.

    ``training_step`` is what NNI's own strategies call. The differentiable ones do for both phases,
    ``alternating``: an even ``batch_idx`` is the architecture's, an odd one the weights'. Those of
    random paths have the weights' phase alone.
    """

    alternating = True

    @property
    def rates(self) -> str:
        """The keys of the learning rates, for messages."""
        return "weights.lr or architecture.lr" if self.alternating else "weights.lr"

    @property
    def model(self) -> nn.Module:
        """The supernet."""
        return self.network.backbone

    def set_model(self, model: nn.Module) -> None:
        """Take the supernet."""
        self.network.backbone = model

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch of either phase."""
        index, of_weights = divmod(batch_idx, 2) if self.alternating else (batch_idx, 1)
        return self.step(batch, index, "weights" if of_weights else "architecture")


class ForwardedHooks(LightningModule):
    """Passes on what NNI does not; inherit it before NNI's module."""

    training_module: Any

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Pass on that gradients are complete."""
        self.training_module.on_before_optimizer_step(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the evaluator's module add to a checkpoint."""
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the evaluator's module the checkpoint that a run continues from."""
        self.training_module.on_load_checkpoint(checkpoint)


class FBNetV2Module(ForwardedHooks, DartsLightningModule):
    """The search loop: weight steps and architecture steps on a shared draw."""

    def __init__(
        self,
        training_module: SearchModule,
        *,
        config: ArchitectureConfig,
        objective: CostObjective,
        gradient_clip: float | None,
    ) -> None:
        super().__init__(
            training_module,
            arc_learning_rate=config.lr,
            gradient_clip_val=gradient_clip,
            warmup_epochs=config.warmup_epochs,
        )
        self.training_module: SearchModule
        self.config = config
        self.objective = objective

    @cached_property
    def choice_parameters(self) -> dict[str, nn.Parameter]:
        """The architecture parameters by decision label, in network order."""
        return choice_parameters(self)

    @cached_property
    def trained_in_architecture_phase(self) -> list[nn.Parameter]:
        """Choices, then what attention selects by, in network order."""
        blocks = attention_blocks(self).values()
        selecting = [parameter for block in blocks for parameter in block.search_parameters()]
        return [*self.choice_parameters.values(), *selecting]

    @cached_property
    def trained_in_weight_phase(self) -> list[nn.Parameter]:
        """Everything else."""
        chosen = {id(p) for p in self.trained_in_architecture_phase}
        return [p for p in self.parameters() if id(p) not in chosen]

    def arch_parameters(self) -> list[nn.Parameter]:
        """Return what the architecture phase trains; NNI's own lists it in no order."""
        return self.trained_in_architecture_phase

    def probabilities(self) -> dict[str, Tensor]:
        """Return the probabilities of every decision's options, without noise."""
        return {label: alpha.softmax(-1) for label, alpha in self.choice_parameters.items()}

    def on_fit_start(self) -> None:
        """Fix the reference that the cost is measured in."""
        self.objective.start(self.probabilities())
        super().on_fit_start()

    def on_train_epoch_start(self) -> None:
        """Seed the draws and pass the hook on; ``frozen`` replaces NNI's freezing by epoch."""
        seed = epoch_seed(self.training_module.config.run.seed, self.current_epoch, SHARED_STREAM)
        noise = torch.Generator().manual_seed(seed)
        for policy in self._policies:
            policy.noise = noise
        self.training_module.on_train_epoch_start()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Run one step of the phase that ``batch`` belongs to."""
        progress = self._architecture_progress(progress_of(self.trainer, batch_idx))
        temperature = self._anneal(progress)
        loss = None
        if "train" in batch:
            with frozen(self.trained_in_architecture_phase):
                self.resample()
                if self.config.weight_draws == "hard":
                    for policy in self._policies:
                        policy.harden()
                loss = self.training_module.step(batch["train"], batch_idx, "weights")
                self.advance_optimization(loss, batch_idx, self.gradient_clip_val)
        elif self.trainer.current_epoch >= self.warmup_epochs:
            loss = self._architecture_step(batch["val"], batch_idx, progress)
            self._log(temperature=temperature)
        self.advance_lr_schedulers(batch_idx)
        return None if loss is None else loss.detach()

    def _architecture_step(self, batch: Any, batch_idx: int, progress: float) -> Tensor:
        optimizer: Any = self.architecture_optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * cosine(progress)
        with frozen(self.trained_in_weight_phase):
            self.resample()
            loss = self.training_module.step(batch, batch_idx, "architecture")
            cost = self.objective.cost(self.probabilities())
            total = self.objective(loss, cost)
            optimizer.zero_grad()
            self.manual_backward(total)
        optimizer.step()
        self.objective.advance(cost, self._architecture_steps())
        self._log_costs(cost.detach(), (total - loss).detach())
        return total

    def _log_costs(self, cost: Tensor, term: Tensor) -> None:
        """Log what the expected cost was, what it added to the loss, and the multiplier.

        A latency is logged at the end of the epoch, by every strategy.
        """
        name = self.objective.config.cost
        if name != "latency":
            self._log(**{LOGGED[name]: cost})
        self._log(cost_term=term)
        if self.objective.form.advance:
            self._log(multiplier=self.objective.multiplier)

    def _log(self, **values: Tensor | float) -> None:
        """Log means over the epoch."""
        for name, value in values.items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def _architecture_steps(self) -> int:
        """Return the number of architecture steps of the whole search."""
        loader: Any = self.trainer.train_dataloader
        assert self.trainer.max_epochs
        return len(loader.architecture) * (self.trainer.max_epochs - self.warmup_epochs)

    def _architecture_progress(self, progress: float) -> float:
        """Return the share of the epochs after the warm-up that is over."""
        assert self.trainer.max_epochs
        warmup = self.warmup_epochs / self.trainer.max_epochs
        return max(0.0, (progress - warmup) / (1 - warmup))

    def _anneal(self, progress: float) -> float:
        start, end = self.config.temperature, self.config.final_temperature
        temperature = exponential(start, end, progress)
        for module in self._draws:
            module.tau = temperature  # type: ignore[assignment]
        return temperature

    @cached_property
    def _policies(self) -> list[SharedSamplePolicy]:
        policies = (getattr(module, "sampling_policy", None) for module in self.supernet_modules())
        return [policy for policy in policies if isinstance(policy, SharedSamplePolicy)]

    @cached_property
    def _draws(self) -> list[GumbelSoftmax]:
        return [module for module in self.modules() if isinstance(module, GumbelSoftmax)]

    def configure_architecture_optimizers(self) -> Any:
        """Return Adam over choices and masks; the choices may share one scale of their steps."""
        config, trained = self.config, self.arch_parameters()
        if config.steps == "each":
            return torch.optim.Adam(trained, config.lr, weight_decay=config.weight_decay)
        choices = list(self.choice_parameters.values())
        groups = [{"params": choices, "shared": True}]
        if masks := trained[len(choices) :]:
            groups.append({"params": masks, "shared": False})
        return SharedAdam(groups, config.lr, config.weight_decay)

    def configure_optimizers(self) -> Any:
        """Return both optimisers; the architecture's rate is set in its own steps."""
        weights: Any = self.training_module.configure_optimizers()
        self.postprocess_weight_optimizers(weights["optimizer"])
        architecture: Any = self.configure_architecture_optimizers()
        architecture.is_arch_optimizer = True
        return [weights, {"optimizer": architecture}]
