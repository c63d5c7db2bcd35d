"""``dcsnas detect``: train a detector around a backbone, score it, look at what it finds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dcsnas.cli.evaluate import Workers
from dcsnas.cli.options import (
    Arch,
    Config,
    Data,
    Device,
    DryRun,
    Force,
    Out,
    Set,
    bar,
    console,
    in_run,
    print_table,
    running,
    show,
    with_allocator,
)
from dcsnas.config.strict import with_data
from dcsnas.spaces.shipped import resolve

app = typer.Typer(
    help="Detection and instance segmentation: Cascade Mask R-CNN around any backbone with maps.",
    no_args_is_help=True,
)

Start = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="First weights of the backbone: backbone.safetensors of pretrain, imported weights, "
        "or detector.safetensors of another run; or the folder of either.",
        callback=in_run("detector.safetensors", "backbone.safetensors"),
    ),
]
Detector = Annotated[
    Path,
    typer.Argument(
        metavar="WEIGHTS",
        help="A run folder of dcsnas detect train, or its detector.safetensors.",
        callback=in_run("detector.safetensors"),
        show_default=False,
    ),
]
CocoFolder = Annotated[
    Path, typer.Option(help="Folder with SPLIT/ and annotations/instances_SPLIT.json.")
]
Split = Annotated[str, typer.Option(help="val2017 for COCO.")]
SkipFaulty = Annotated[
    bool, typer.Option("--skip-faulty", help="Leave out what has faults, instead of refusing.")
]


@app.command("train")
def train(
    config: Config,
    arch: Arch,
    data: Data = None,
    start: Start = None,
    set_: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Train a detector around an architecture on a set in COCO's format; detector.safetensors.

    Example: dcsnas detect train detect_tiny --arch architecture.yaml --data DIR
    """
    _run("train", config, arch, data, start, set_, out, dry_run)


@app.command("search")
def search(
    config: Config,
    arch: Arch,
    data: Data = None,
    start: Start = None,
    set_: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Search what the attention of a detector selects, on two parts of the training images.

    Example: dcsnas detect search detect_coco_search --arch convnext_dcs.yaml --data COCO
    """
    _run("search", config, arch, data, start, set_, out, dry_run)


def _run(
    stage: str,
    config: str,
    arch: Path,
    data: Path | None,
    start: Path | None,
    set_: list[str] | None,
    out: Path | None,
    dry_run: bool,
) -> None:
    from dcsnas.config.detection import DetectConfig
    from dcsnas.spaces.architecture import load_architecture

    resolved = resolve(DetectConfig, config, with_data(set_ or [], data))
    architecture = load_architecture(arch)
    if dry_run:
        return show(resolved)
    with_allocator()

    from dcsnas.detection.search import search_attention
    from dcsnas.detection.train import train_detector
    from dcsnas.training.processes import this_process

    run = search_attention if stage == "search" else train_detector
    first = this_process(resolved.run).first
    with running(out, f"detect_{stage}", config, first=first) as folder:
        trained = run(resolved, architecture, folder, start=start, progress=True)
    split = resolved.data.val
    console.print(
        f"{trained.weights}: next: dcsnas detect evaluate {trained.weights} "
        f"--data {resolved.data.root}{'' if split == 'val' else f' --split {split}'}"
    )


@app.command("evaluate")
def evaluate(
    weights: Detector,
    data: CocoFolder,
    split: Split = "val",
    skip_faulty: SkipFaulty = False,
    device: Device = "auto",
    workers: Workers = 2,
    latency: Annotated[bool, typer.Option(help="Measure the detector's time an image.")] = True,
    out: Annotated[Path | None, typer.Option(help="Default: metrics.json beside WEIGHTS.")] = None,
    force: Force = False,
) -> None:
    """Score a detector with COCO's measures, boxes and masks; writes detections.json as well.

    Example: dcsnas detect evaluate runs/detect_train-0000-detect_tiny --data DIR
    """
    from dcsnas.config.outputs import output
    from dcsnas.detection.coco import read_coco
    from dcsnas.detection.evaluation import evaluate_detector, measure_detector
    from dcsnas.detection.weights import load_detector

    path = out or weights.with_name("metrics.json")
    used = load_detector(weights)
    found = read_coco(data, split).accepted(skip=skip_faulty)
    with output(path, force=force):
        options = {"device": device, "workers": workers}
        with bar("detecting") as progress:
            report = evaluate_detector(used, found, **options, progress=progress)
        measured = measure_detector(used, found, device=device) if latency else None
        report.save(path, measured)
    _show_scores(report.scores, [name for _, name in used.header.categories])
    if measured:
        ms, relative = measured["measured_ms"], measured["relative"]
        console.print(
            f"{ms:.1f} ms an image on {measured['device']}, {relative:.2f} times the reference "
            "network beside it"
        )
    console.print(f"all in {path}, detections in {path.with_name('detections.json')}")


def _show_scores(scores: Any, categories: list[str]) -> None:
    def row(name: str, key: str) -> tuple[str, ...]:
        values = [scores.get(f"{kind}_{key}") for kind in ("box", "mask")]
        return (name, *("" if value is None else f"{value:.2f}" for value in values))

    names = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "AP small",
             "ap_medium": "AP medium", "ap_large": "AP large"}  # fmt: skip
    rows = [row(name, key) for key, name in names.items()]
    rows += [row(f"AP50 {name}", f"ap50_{name}") for name in categories]
    print_table(("%", "boxes", "masks"), rows)


@app.command("show")
def show_found(
    weights: Detector,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.", show_default=False)],
    least: Annotated[float, typer.Option(min=0, max=1, help="Smallest score shown.")] = 0.5,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Draw what a detector finds on images: boxes, masks, categories and scores in percent.

    Example: dcsnas detect show runs/detect_train-0000-detect_tiny street.jpg --out seen
    """
    from dcsnas.config.outputs import require_output
    from dcsnas.detection.pictures import detect_file, draw_detections, save_picture
    from dcsnas.detection.weights import load_detector

    used = load_detector(weights)
    for image in images:
        path = out / f"{image.stem}.png"
        require_output(path, force=force)
        found = detect_file(used, image, device=device)
        save_picture(draw_detections(image, found, used.header.categories, least=least), path)
        seen = int((found.scores >= least).sum())
        console.print(f"{path}: {seen} found")


@app.command("check")
def check(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the set.")],
    split: Split = "train",
) -> None:
    """Say what is in a set in COCO's format and what is wrong with it; exit code 2 for faults.

    Example: dcsnas detect check data/scenes
    """
    from dcsnas.detection.coco import SHOWN, read_coco

    found = read_coco(data, split)
    empty = sum(not picture.things for picture in found.pictures)
    console.print(
        f"{found.annotations}: {len(found.pictures):,} images, {empty:,} of them without "
        f"annotations; {found.num_things:,} annotations"
    )
    print_table(("category", "annotations"), [(n, f"{c:,}") for n, c in found.counts().items()])
    for fault in found.faults[:SHOWN]:
        console.print(f"fault: {fault}")
    if found.faults:
        console.print(f"{len(found.faults):,} faults; data.skip_faulty=true leaves them out")
        raise typer.Exit(2)
