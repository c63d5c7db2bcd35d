"""Detection and segmentation on the drawn set: ConvNeXt-Atto under a Cascade Mask R-CNN.

Command: .venv/bin/python benchmarks/detection.py --quick

Draws the set, trains with ``experiments/detect_tiny.yaml`` and scores boxes and masks on pictures
of people that training has not seen. In its whole length it wants ``--out``, a folder in which a
stopped run goes on, and takes 25 minutes of two cores with ``--set run.devices=2`` and
``--set run.device=cpu``. ``--attention`` puts a kind of attention after each of the
backbone's four stages. Needs the extra ``detection`` and timm. The last line is one JSON object
with ``box_ap50`` and ``mask_ap50`` in percent, and ``seconds``, all of what this call took.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from outcome import conclude

from dcsnas.config.detection import DetectConfig
from dcsnas.config.runs import run_folder
from dcsnas.data.drawn.detection import SceneSettings, render_scenes
from dcsnas.detection.coco import read_coco
from dcsnas.detection.evaluation import evaluate_detector, measure_detector
from dcsnas.detection.train import train_detector
from dcsnas.detection.weights import load_detector
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.shipped import resolve
from dcsnas.spaces.space import load_space
from dcsnas.training.processes import this_process

SIDE = 128
FULL, QUICK = (1500, 200), (300, 50)
"""Pictures to train on and to score."""
QUICK_SETTINGS = ("epochs=4", "batch_size=4", "optimizer.lr=0.001")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 pictures, 4 epochs: two minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attention", default="none", help="none, sa, dcs or another kind")
    parser.add_argument("--out", type=Path, help="folder to keep, and to go on in")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    started, processor = time.perf_counter(), time.process_time()
    with ExitStack() as holding:
        temporary = holding.enter_context(tempfile.TemporaryDirectory())
        root = options.out or Path(temporary)
        scenes, run = root / "scenes", root / f"{options.attention}-{options.seed}"
        train_images, val_images = QUICK if options.quick else FULL
        size = {"height": SIDE, "width": SIDE, "seed": options.seed}
        if not scenes.exists():
            render_scenes(scenes, SceneSettings(train_images, val_images, **size))
        changes = [*QUICK_SETTINGS] if options.quick else []
        changes += [f"run.seed={options.seed}", f"data.root={scenes}", *options.set]
        config = resolve(DetectConfig, "detect_tiny", changes)
        space = load_space("convnext_atto", options.attention)
        network = space.described(largest_choice(space), (SIDE, SIDE), seed=0)
        first = this_process(config.run).first  # several need --out, which they share
        folder = holding.enter_context(run_folder(run, "detect", config, first=first))
        trained = train_detector(config, network, folder)
        used, val = load_detector(trained.weights), read_coco(scenes, "val")
        report = evaluate_detector(used, val, workers=0)
        latency = measure_detector(used, val, device="cpu")
        report.save(run / "metrics.json", latency)
    scores = {name: round(score, 2) for name, score in report.scores.items()}
    conclude(
        {
            "box_ap50": scores.pop("box_ap50"),
            "mask_ap50": scores.pop("mask_ap50"),
            "seconds": round(time.perf_counter() - started, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "attention": options.attention,
            "seed": options.seed,
            "params": trained.params,
            "latency": latency,
            "scores": scores,
        },
        options.out / "result.json" if options.out else None,
    )


if __name__ == "__main__":
    main()
