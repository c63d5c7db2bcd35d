"""Choosing eta, the weight of the information bound, by cross-validation over identities.

Source: DCS-Attention 2025, Section 4.2, "Tuning Hyper-Parameters by Cross-Validation". The paper
compares validation losses; held-out identities have no class in a classifier, and a loss that
contains eta is not comparable between values of it, so here it is mAP that decides.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.durations import TimeLeft
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.tuning import TuneEtaConfig
from dcsnas.data.folds import hold_out
from dcsnas.data.reid import ReidData, read_reid
from dcsnas.latency.machine import running_on
from dcsnas.spaces.architecture import ArchitectureFile, save_architecture
from dcsnas.tasks.task import evaluate
from dcsnas.training.eta_choice import EtaChoice, FoldScore
from dcsnas.training.first_weights import check_start
from dcsnas.training.gradients import bound_percent
from dcsnas.training.processes import this_process
from dcsnas.training.train import inputs_of, train

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One retraining: its eta, its fold from 0, the fold's data and where it lies."""

    eta: float
    fold: int
    data: ReidData
    folder: RunFolder

    @property
    def record(self) -> Path:
        """The file that says that the run is over, and how good its network is."""
        return self.folder.path / "metrics.json"

    def describe(self) -> str:
        """Return which run it is, for a line of output."""
        return f"fold {self.fold + 1}, eta {self.eta:g}"

    def score(self) -> FoldScore:
        """Return what was measured; raises UserError where the file was edited."""
        found = read_json(self.record)
        try:
            values = [float(found[name]) for name in ("map", "rank1", "ibb", "ib_loss")]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.record}: not what dcsnas tune-eta writes ({error!r}); delete it to measure "
                "this run again"
            ) from None
        moved = bound_percent(self.folder.metrics) or 0.0
        return FoldScore(self.eta, self.fold + 1, *values, bound_percent=moved)


def folds_of(config: TuneEtaConfig, data: ReidData) -> list[ReidData]:
    """Return every fold of ``data``; raises UserError where one cannot be trained or scored."""
    dealing = {"folds": config.folds, "seed": config.run.seed, "share": config.share}
    parts = [hold_out(data, **dealing, fold=fold) for fold in range(config.folds)]
    fewest = min(part.num_classes for part in parts)
    if config.batch.identities > fewest:
        raise UserError(
            f"batch.identities is {config.batch.identities}, but {fewest} identities are left to "
            f"train on beside a fold; set it to at most {fewest}, or raise the share"
        )
    return parts


def tune_eta(
    config: TuneEtaConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    *,
    start: Path | None = None,
    say: Say = print,
    progress: bool = True,
) -> EtaChoice:
    """Train ``architecture`` under every eta without every fold; writes eta.json and eta.csv.

    All runs have the same seed, so that etas are compared fold by fold. What was stopped is
    continued: finished runs are read, the unfinished one goes on from its checkpoint. ``say`` is
    told of each run; ``start`` and ``progress`` are retrain's.
    """
    if this_process(config.run).world_size > 1:
        raise UserError(
            "tune-eta trains one network after another in one process; set run.devices=1, and "
            "start it without torchrun"
        )
    data = read_reid(config.data.root, config.data.variant)
    runs = list(_runs(config, folds_of(config, data), folder))
    if start:
        check_start(start, architecture, config, data)
    inputs = inputs_of(architecture, data, start)
    folder.start("tune-eta", config, inputs, device=running_on(config.run.device))
    save_architecture(folder.path / "architecture.yaml", architecture)
    waiting = {n: run for n, run in enumerate(runs, 1) if not run.record.exists()}
    if finished := len(runs) - len(waiting):
        say(f"{finished} of {len(runs)} runs are finished already")
    time_left = TimeLeft(len(waiting))
    for number, run in waiting.items():
        say(f"run {number} of {len(runs)}: {run.describe()}")
        _train_and_measure(config, architecture, run, start=start, progress=progress)
        score, ahead = run.score(), time_left.after_one_more()
        moved = f"the bound's gradient {score.bound_percent:.2g} % of the cross-entropy's"
        say(f"  mAP {score.map:.2f} %, Rank-1 {score.rank1:.2f} %; {moved}{ahead}")
    choice = EtaChoice(tuple(run.score() for run in runs))
    choice.write_csv(folder.path / "eta.csv")
    write_json(folder.path / "eta.json", {**choice.record(), **_conditions(config, data)})
    return choice


def _runs(config: TuneEtaConfig, parts: list[ReidData], folder: RunFolder) -> Iterator[Run]:
    # fold by fold, so that a tuning that was stopped has compared all etas on its first folds
    for fold, data in enumerate(parts):
        for eta in config.etas:
            run = RunFolder(folder.path / f"fold-{fold + 1}" / f"eta-{eta:g}")
            run.continued = folder.continued  # all of them
            yield Run(eta, fold, data, run)


def _train_and_measure(
    config: TuneEtaConfig,
    architecture: ArchitectureFile,
    run: Run,
    *,
    start: Path | None,
    progress: bool,
) -> None:
    fields = {name: getattr(config, name) for name in RetrainConfig.model_fields}
    loss = config.loss.model_copy(update={"eta": run.eta})
    trained = train(
        RetrainConfig(**{**fields, "loss": loss}),
        architecture,
        run.folder,
        stage="retrain",
        start=start,
        data=run.data,
        progress=progress,
    )
    measured = evaluate(
        trained.weights,
        run.data,
        device=config.run.device,
        workers=config.data.workers,
        threads=config.run.threads,
        ib_size=config.loss.ib_size,
        ib_temperature=config.loss.ib_temperature,
        ib_centered=config.loss.ib_centered,
    )
    write_json(run.record, measured.record())
    run.folder.checkpoint.unlink(missing_ok=True)  # of many runs they would fill a disk


def _conditions(config: TuneEtaConfig, data: ReidData) -> dict[str, object]:
    """Return under what the numbers hold."""
    return {
        "folds": config.folds,
        "share": config.share,
        "seed": config.run.seed,
        "epochs": config.epochs,
        "data": {
            "name": data.root.resolve().name,
            "set": data.title,
            "train_identities": data.num_classes,
        },
        "protocol": {
            "map": "percent, on the held-out identities of the fold, matches from the query's own "
            "camera left out",
            "information": "nats, on the training images beside the fold, assignments at "
            f"temperature {config.loss.ib_temperature:g}",
            "map_sd": "over folds",
            "advantage_se": "standard error of the mean difference of the same folds",
            "advantage_low95": "end of its 95 % interval by Student's t, as advantage_high95",
        },
    }
