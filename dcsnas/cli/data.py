"""``dcsnas data``: draw the synthetic data sets, check any Re-ID set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsnas.cli.options import Cuhk03, Cuhk03Classic, Msmt17, bar, console

app = typer.Typer(help="Render the synthetic data sets; check any data set.", no_args_is_help=True)

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder to make.", show_default=False)
]


@app.command("render")
def render(
    directory: Directory,
    kind: Annotated[
        Literal["reid", "classes"],
        typer.Option(help="reid: Market-1501 layout; classes: image folder for pretrain."),
    ] = "reid",
    train_identities: Annotated[int, typer.Option(min=2, help="People to train on.")] = 200,
    test_identities: Annotated[int, typer.Option(min=1, help="People to search for.")] = 100,
    cameras: Annotated[int, typer.Option(min=2, max=9, help="Cameras that see everybody.")] = 4,
    images_per_camera: Annotated[int, typer.Option(min=2, help="Images of one by each.")] = 3,
    distractors: Annotated[int, typer.Option(min=0, help="Gallery images of nobody asked for.")] = (
        240
    ),
    junk: Annotated[int, typer.Option(min=0, help="Badly cropped gallery images.")] = 80,
    images_per_class: Annotated[int, typer.Option(min=1, help="For --kind classes.")] = 200,
    height: Annotated[int, typer.Option(min=32, help="Of the images, in pixels.")] = 64,
    width: Annotated[int, typer.Option(min=16, help="Of the images, in pixels.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Other people for another number.")] = 0,
) -> None:
    """Draw a person re-identification set, or a classification set of the same drawing.

    Example: dcsnas data render data/people --train-identities 200
    """
    from dcsnas.data.drawn.render import ClassSettings, ReidSettings, render_classes, render_reid

    common = {"cameras": cameras, "seed": seed, "height": height, "width": width}
    with bar("rendering") as report:
        if kind == "reid":
            people = ReidSettings(
                train_identities=train_identities,
                test_identities=test_identities,
                images_per_camera=images_per_camera,
                distractors=distractors,
                junk=junk,
                **common,
            )
            drawn = render_reid(directory, people, progress=report)
        else:
            classes = ClassSettings(train_per_class=images_per_class, **common)
            drawn = render_classes(directory, classes, progress=report)
    console.print(f"rendered {directory}" if drawn else f"{directory}: is there, as asked for")


@app.command("scenes")
def scenes(
    directory: Directory,
    train_images: Annotated[int, typer.Option(min=1, help="Pictures to train on.")] = 1500,
    val_images: Annotated[int, typer.Option(min=1, help="Pictures to score on.")] = 200,
    height: Annotated[int, typer.Option(min=64, help="Of a picture, in pixels.")] = 160,
    width: Annotated[int, typer.Option(min=64, help="Of a picture, in pixels.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
) -> None:
    """Draw a detection set: scenes of people and garments, with boxes and masks as COCO has them.

    Example: dcsnas data scenes data/scenes --train-images 1500
    """
    from dcsnas.data.drawn.detection import SceneSettings, render_scenes

    settings = SceneSettings(
        train_images=train_images, val_images=val_images, height=height, width=width, seed=seed
    )
    with bar("drawing") as report:
        counts = render_scenes(directory, settings, progress=report)
    things = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    console.print(f"drew {directory}: {things}")


@app.command("check")
def check(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder or CSV file.", show_default=False)
    ],
    msmt17: Msmt17 = "train",
    cuhk03: Cuhk03 = "detected",
    cuhk03_classic: Cuhk03Classic = None,
) -> None:
    """Say what is in a data set and what is wrong with it; exit code 2 if it cannot be used.

    Example: dcsnas data check data/people
    """
    from dcsnas.config.stages import VariantConfig
    from dcsnas.data.check import check_reid

    variant = VariantConfig(msmt17=msmt17, cuhk03=cuhk03, cuhk03_classic=cuhk03_classic)
    with bar("checking") as report:
        result = check_reid(directory, variant, progress=report)
    for line in result.lines():
        console.print(line)
    if not result.usable:
        raise typer.Exit(2)
