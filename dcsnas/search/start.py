"""What a search begins with: its run folder, and what that keeps of space, table and data."""

from collections.abc import Sequence

from dcsnas.config.files import write_yaml
from dcsnas.config.runs import Input, RunFolder
from dcsnas.config.search import SearchConfig
from dcsnas.data.class_names import write_class_names
from dcsnas.data.reid import Sample, TaskData, samples_input
from dcsnas.latency.machine import running_on
from dcsnas.latency.table import LatencyTable, save_table
from dcsnas.nn.distributed import pick_device
from dcsnas.search.registry import resumes
from dcsnas.spaces.layers import Size
from dcsnas.spaces.space import SearchSpace


def described(
    config: SearchConfig,
    space: SearchSpace,
    size: Size,
    table: LatencyTable,
    parts: Sequence[Sequence[Sample]],
) -> list[str]:
    """Return what is searched on what, for people."""
    images = " + ".join(f"{len(part):,}" for part in parts)
    return [
        f"searching {space.name} at {size[0]}x{size[1]} on {pick_device(config.run.device).type}",
        f"{images} images of {config.data.root} for weights + architecture",
        f"latencies of {table.source}",
    ]


def start_run(
    config: SearchConfig, folder: RunFolder, space: SearchSpace, table: LatencyTable, data: TaskData
) -> None:
    """Begin the run or go on with it; one that cannot be continued says that it starts over."""
    inputs = _inputs(config.space, space, table)
    known = {**inputs, "data": samples_input(data.root, data.train)}
    folder.start("search", config, known, device=running_on(config.run.device))
    write_class_names(folder.path, data.classes)
    _copy_inputs(folder, space, table)
    if folder.checkpoint.exists() and not resumes(config):
        print(f"{folder.path}: {config.strategy} cannot continue a search; it starts over")


def _inputs(name: str, space: SearchSpace, table: LatencyTable) -> dict[str, Input]:
    """Return what is recorded of space and table."""
    file = table.file
    facts = {
        **file.conditions.model_dump(mode="json"),
        "date": file.date,
        "space": file.space.name,
        "entries": len(file.entries),
        "failed": len(file.failed),
        "calibrated": file.calibration is not None,
    }
    return {
        "space": Input(space.digest, name, space.file.model_dump(mode="json"), "space"),
        "table": Input(table.digest, table.source, facts, "table"),
    }


def _copy_inputs(folder: RunFolder, space: SearchSpace, table: LatencyTable) -> None:
    """Keep space and table with the run: deriving needs nothing else."""
    write_yaml(folder.path / "space.yaml", space.file.model_dump(mode="json"))
    save_table(folder.path / "table.json", table.file)
