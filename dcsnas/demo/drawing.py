"""The demo's images, both sets at once, and a sheet of some of them: its first picture."""

from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

from dcsnas.config.plugins import new_processes
from dcsnas.data.drawn.render import (
    ClassSettings,
    Progress,
    ReidSettings,
    render_classes,
    render_reid,
)
from dcsnas.data.reid import read_reid
from dcsnas.plots.gallery import plot_people
from dcsnas.plots.style import save


def draw_both(root: Path, reid: ReidSettings, classes: ClassSettings, progress: Progress) -> None:
    """Draw ``root/people`` and ``root/classes``, each by a process, where they are not there.

    ``progress`` hears of the pictures done and wanted.
    """
    sets = {root / "people": (render_reid, reid), root / "classes": (render_classes, classes)}
    wanted = {folder: one for folder, one in sets.items() if not folder.exists()}
    if not wanted:
        return
    total = sum(settings.num_images for _, settings in wanted.values())
    with new_processes(len(wanted)) as pool:
        futures = [pool.submit(draw, at, settings) for at, (draw, settings) in wanted.items()]
        while wait(futures, timeout=1).not_done:
            progress(sum(1 for at in wanted for _ in _drawn(at)), total)
        for future in futures:
            future.result()
    progress(total, total)


def _drawn(folder: Path) -> Iterator[Path]:
    """Yield the pictures of a set that is being drawn, in the folder that becomes it."""
    for partial in folder.parent.glob(f"{folder.name}.*.partial"):
        yield from partial.rglob("*.jpg")


def draw_sheet(root: Path) -> Path:
    """Write ``people.png``: some people as every camera sees them; return its path."""
    return save(plot_people(read_reid(root / "people")), root / "people.png")
