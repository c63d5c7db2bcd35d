"""Pictures within a page: those in a run's folder, and ranked galleries as images with marks."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.config.stages import VariantConfig
from dcsnas.config.strict import validate
from dcsnas.data.decoding import decode_rgb
from dcsnas.data.reid import ReidData, Sample, read_reid
from dcsnas.plots.gallery import Verdict, chosen_queries, judged

QUERIES, NEAREST = 8, 10
"""Of one gallery."""
TALLEST = 128
"""Pixels of an image's height in a page."""
QUALITY = 85
"""Of JPEG."""
PICTURES = {
    "seen": "Grad-CAM at the end of each stage, and affinities of a position at each attention",
    "selected": "share of the channels that each attention selects",
    "features": "features of some identities in the plane",
    "probabilities": "probability of every option over the search",
    "evolution": "the most probable network at several epochs of the search",
    "eta": "scores by the weight of the bound",
}
"""Pictures of dcsnas plot that a page shows, and what is on them."""


@dataclass(frozen=True)
class Picture:
    """An image that is part of the page, and what is on it in words."""

    source: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Ranked:
    """A gallery image beside a query: rank from 1, the picture, and whether it is right."""

    rank: int
    picture: Picture
    verdict: Verdict


@dataclass(frozen=True)
class Row:
    """A query and its nearest gallery images."""

    query: Picture
    found: list[Ranked]


@dataclass(frozen=True)
class Gallery:
    """Queries, evenly spaced over all; a whole picture, or the reason, where they are not there."""

    label: str
    rows: list[Row]
    picture: Picture | None = None
    reason: str = ""


def pictures_of(run: Path) -> list[Picture]:
    """Return those of the run's pictures that a page shows; raises UserError for a broken one."""
    files = {run / "plots" / f"{name}.png": alt for name, alt in PICTURES.items()}
    return [_whole(file, f"{alt}, of {run.name}") for file, alt in files.items() if file.is_file()]


def gallery_of(label: str, run: Path) -> Gallery | None:
    """Return the ranked gallery of an evaluated run, None where there is none.

    Where the data set is not where it was, it is the picture that dcsnas plot made, if there is.
    """
    path = run / "neighbours.json"
    if not path.is_file():
        return None
    try:
        return Gallery(label, _rows(path))
    except UserError as error:
        drawn, alt = run / "plots" / "gallery.png", f"queries and their nearest images, of {label}"
        return Gallery(label, [], _whole(drawn, alt) if drawn.is_file() else None, str(error))


def _rows(path: Path) -> list[Row]:
    ranking = read_json(path)
    variant = validate(VariantConfig, ranking.get("variant", {}), path)
    data = read_reid(Path(str(ranking.get("data", ""))), variant)
    neighbours = ranking.get("neighbours")
    rows = neighbours if isinstance(neighbours, list) else []
    fit = all(_are_positions(row, len(data.gallery)) for row in rows)
    if not fit or len(rows) != len(data.query):
        raise UserError(f"{path}: does not fit {data.root}; evaluate again")
    sought = {sample.identity for sample in data.query}
    shown = chosen_queries(len(data.query), QUERIES)
    return [_row(data, position, rows[position][:NEAREST], sought) for position in shown]


def _row(data: ReidData, position: int, nearest: list[int], sought: set[int]) -> Row:
    query = data.query[position]
    found = judged(query, data.gallery, positions=nearest, sought=sought)
    who = f"query of identity {query.identity}, camera {query.camera}"
    ranked = [
        Ranked(one.rank, _thumbnail(one.sample, _said(one.rank, one.sample, one.verdict)),
               one.verdict)
        for one in found
    ]  # fmt: skip
    return Row(_thumbnail(query, who), ranked)


def _said(rank: int, sample: Sample, verdict: Verdict) -> str:
    return f"rank {rank}: {verdict.meaning}, camera {sample.camera}"


def _are_positions(row: object, count: int) -> bool:
    return isinstance(row, list) and all(isinstance(p, int) and -1 <= p < count for p in row)


def _thumbnail(sample: Sample, alt: str) -> Picture:
    """Return a small copy of an image as a part of the page."""
    image = decode_rgb(sample.path)
    if image.height > TALLEST:
        width = max(1, round(image.width * TALLEST / image.height))
        image = image.resize((width, TALLEST), Image.Resampling.BILINEAR)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return Picture(_as_source(content.getvalue(), "jpeg"), alt, *image.size)


def _whole(path: Path, alt: str) -> Picture:
    """Return a picture of dcsnas plot as a part of the page; raises UserError for no PNG."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            size = image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: is no whole PNG ({error}); draw it again: dcsnas plot {path.parents[1]}"
        ) from None
    return Picture(_as_source(content, "png"), alt, *size)


def _as_source(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
