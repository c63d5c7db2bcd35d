"""The pictures of what the network of a training run sees in images that are given."""

from collections.abc import Sequence
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.stages import VariantConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import ReidData, read_reid
from dcsnas.deployment.embedding import find_images
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.seeing import Place
from dcsnas.nn.weights import NetworkInUse, load_network, read_header
from dcsnas.plots.features import plot_features
from dcsnas.plots.seeing import plot_seen, plot_selected, see
from dcsnas.plots.style import save
from dcsnas.tasks.task import find_task

WEIGHTS = "model.safetensors"


def plot_seeing(
    run: Path, images: Sequence[Path], *, place: Place = (0.5, 0.5)
) -> tuple[list[Path], list[str]]:
    """Draw what the network of ``run`` sees; return the files, and what is left out and why.

    ``images`` are files and folders, of which the first few are shown. ``place`` is the query
    position of the affinities. Raises UserError where the run has no whole network, or an image
    cannot be read; nothing is written then.
    """
    if not all(0 <= share < 1 for share in place):
        raise UserError(
            f"--at {place[0]:g},{place[1]:g}: a place has shares of an image's height and width, "
            "from 0 to below 1, such as 0.3,0.5"
        )
    used = _network_of(run)
    seen = see(used, find_images(images), place)
    figures = {"seen": plot_seen(seen)}
    left_out = []
    if seen.selected:
        figures["selected"] = plot_selected(seen.selected, len(seen.paths))
    else:
        left_out.append("selected: no attention of this network leaves channels out")
    try:
        figures["features"] = _draw_features(run, used)
    except UserError as error:
        left_out.append(f"features: {error}")
    written = []
    for name, figure in figures.items():
        kinds = ("png",) if name == "seen" else ("png", "svg")
        written += [save(figure, run / "plots" / f"{name}.{kind}") for kind in kinds]
    return written, left_out


def _network_of(run: Path) -> NetworkInUse:
    path = run / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"{run}: holds no {WEIGHTS}; --images shows what a trained network sees: give the run "
            "folder of a retrain stage that has ended"
        )
    return load_network(path, find_task(read_header(path).task).head)


def _draw_features(run: Path, used: NetworkInUse):
    data = _data_of(run, used)
    extractor = Extractor.of(used, device="auto", workers=0)
    parts = [extractor.embed(part) for part in (data.query, data.gallery)]
    return plot_features(parts, source=f"query and gallery of {data.root.resolve().name}")


def _data_of(run: Path, used: NetworkInUse) -> ReidData:
    """Return the data set that the run was trained on; raises UserError where it is not there."""
    if used.header.task != "reid":
        raise UserError(f"they are of identities, and this run's task is {used.header.task}")
    config = run / "config.yaml"
    content = read_yaml(config).get("data", {})
    variant = validate(VariantConfig, content.get("variant", {}), config)
    return read_reid(Path(content.get("root", "")), variant)
