"""The weights that a training starts from: what they may be, what they know, how they are taken."""

from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.stages import Size, TrainConfig
from dcsnas.data.reid import samples_digest
from dcsnas.nn.build import Backbone
from dcsnas.nn.distributed import pick_device
from dcsnas.nn.inherit import InheritReport, inherit_weights
from dcsnas.nn.weights import (
    OF_BACKBONE,
    WITH_HEAD,
    WeightsHeader,
    check_same_network,
    read_header,
    read_state,
)
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.tasks.task import Task, TaskData, find_task
from dcsnas.training.batchnorm_statistics import measure_statistics


def check_start(
    start: Path, architecture: ArchitectureFile, config: TrainConfig, data: TaskData
) -> None:
    """Refuse weights that do not fit before a run folder exists.

    ``data`` is the whole set, of which a training by ``config`` may hold identities out.
    """
    header = read_header(start)
    if header.stage in WITH_HEAD:
        raise UserError(
            f"{start}: holds a whole network, of stage '{header.stage}'; give the "
            "backbone.safetensors of pretrain or the supernet.safetensors of search"
        )
    if header.stage in OF_BACKBONE:
        check_same_network(start, header, architecture)
    elif header.space_digest != architecture.provenance.space_digest:
        raise UserError(
            f"{start}: the supernet of another search space than the architecture's "
            f"({architecture.provenance.space}); give the one of the search that it came from"
        )
    if config.holds_out:
        _refuse_seen(start, header, data, find_task(config.task))


def _refuse_seen(start: Path, header: WeightsHeader, data: TaskData, task: Task) -> None:
    """Raise UserError where weights know the images of ``data``.

    Imported ones say nothing of their images, and are taken; files of earlier versions say nothing
    either, and are not where their task is the same.
    """
    part = task.held_out.removeprefix("held-out ")
    unseen = {"identities": "people"}.get(part, part)
    if samples_digest(data.train) in header.trained_on:
        known = f"was trained on the {part} that are to be held out"
    elif not header.trained_on and header.stage != "import" and header.task == task.name:
        known = f"may know the {part} to be held out: an earlier version wrote it, without them"
    else:
        return
    raise UserError(
        f"{start}: {known}, so their scores would not be of unseen {unseen}; start without --from, "
        "or from a backbone trained on other images, or hold none out (validation.hold_out: 0)"
    )


def known_images(start: Path | None, data: TaskData) -> tuple[str, ...]:
    """Return which sets weights know that were trained on ``data`` from ``start``, by digest."""
    before = read_header(start).trained_on if start else ()
    return tuple(dict.fromkeys((*before, samples_digest(data.train))))


def take_weights(
    backbone: Backbone, start: Path, data: TaskData, size: Size, config: TrainConfig
) -> InheritReport | None:
    """Fill ``backbone`` from ``start``; return what it inherited where that is a supernet.

    A supernet's BatchNorm statistics are of blends of widths, so those of the inherited network
    are measured: on images of ``data`` changed as in training, under evaluation's masks.
    """
    state = read_state(start)
    if read_header(start).stage != "search":
        backbone.load_state_dict(state)
        return None
    report = inherit_weights(backbone, state)
    measure_statistics(
        backbone.to(pick_device(config.run.device)),
        data.train,
        size,
        data=config.data,
        augment=config.augment,
        seed=config.run.seed,
    )
    backbone.cpu().train()  # a trainer moves it, and leaves modes as they are
    return report
