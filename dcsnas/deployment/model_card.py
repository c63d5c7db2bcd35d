"""The model card: README.md of a folder to deploy.

Source: Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, for what it tells.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dcsnas.config.files import yaml_text
from dcsnas.latency.verdict import Verdict

LOSS_TO_MENTION = 1.0
"""Points of the main score that int8 may lose before the card advises against it."""

_NAMES = {"map": "mAP", "rank1": "Rank-1", "accuracy": "accuracy", "top5_accuracy": "top 5"}
_USES = {
    "reid": "Compares images of people: two images' features, of unit length, have a large scalar "
    "product where they show the same person. It answers whether two crops of people "
    "look alike, not who someone is.",
    "classify": "Tells classes of images apart: the output is a probability for each class.",
}
_LEFT_OUT = {"run", "inputs", "stage", "validation"}


def model_card(record: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> str:
    """Return the card for the content of ``deploy.json`` and the training's configuration."""
    network, data = record["network"], record["data"]
    sections = [
        f"# {_title(network)}",
        _USES[record["task"]],
        _run(network),
        "## Scores and latency",
        _models(record),
        *_advice(record),
        _conditions(record["latency"]),
        "## Data",
        _data(record, data),
        "## Recipe",
        _recipe(recipe),
        "## Limits and licences",
        _licences(data["name"]),
    ]
    return "\n\n".join(sections) + "\n"


def _title(network: Mapping[str, Any]) -> str:
    space, (height, width) = network["space"] or "network", network["input"]
    size = f", {network['params'] / 1e6:.2f} M parameters" if network["params"] else ""
    return f"{space} at {height}x{width}{size}"


def _run(network: Mapping[str, Any]) -> str:
    height, width = network["input"]
    return (
        "```\npip install onnxruntime numpy pillow\npython run.py a.jpg b.jpg\n"
        "python run.py a.jpg b.jpg --model model.int8.onnx\n```\n\n"
        f"Input `images`: uint8 [batch, 3, {height}, {width}], RGB, 0 to 255, not normalised. "
        f"Output `{network['output']}`: float32 [batch, {network['length']}]. `run.py` shows what "
        "becomes of an image file. ONNX Runtime gives what torch gives to "
        f"{network['max_difference_from_torch']:.0e}, in float32."
    )


def _models(record: Mapping[str, Any]) -> str:
    first = next(iter(record["models"].values()))
    scores = [name for name in _NAMES if name in first["scores"]]
    near = "cosine to float32" if record["task"] == "reid" else "same answers"
    header = ["model", "MB", *(f"{_NAMES[name]} (%)" for name in scores), near, "latency (ms)"]
    rows = []
    for name, one in record["models"].items():
        numbers = [f"{one['scores'][score]:.1f}" for score in scores]
        near = f"{one['nearness']:.4f}"
        rows.append(
            [f"`{name}`", f"{one['bytes'] / 1e6:.1f}", *numbers, near, f"{one['latency_ms']:.2f}"]
        )
    return _table(header, rows)


def _advice(record: Mapping[str, Any]) -> list[str]:
    full, small = (one["scores"][record["metric"]] for one in record["models"].values())
    ratio, lost = record["latency"]["int8_times_as_fast"], full - small
    said = [
        f"In one run int8 was {ratio:.2f} times as fast as float32, and its "
        f"{_NAMES[record['metric']]} is {abs(lost):.1f} points "
        f"{'below' if lost >= 0 else 'above'} it."
    ]
    if lost > LOSS_TO_MENTION:
        said.append("int8 loses more than a point: take `model.onnx` unless that is affordable.")
    if ratio < 1:
        said.append("int8 is the slower one on this machine: measure on yours before you take it.")
    return said


def _conditions(latency: Mapping[str, Any]) -> str:
    on = latency["conditions"]
    verdict = Verdict.model_validate(latency["verdict"])
    threads = "1 thread" if on["threads"] == 1 else f"{on['threads']} threads"
    return (
        f"Latency: ONNX Runtime {on['backend_version']} on {on['device_name']}, {threads}, "
        f"batch of {on['batch']}, uint8 images in memory; both models sampled in turns beside a "
        f"reference network ({latency['reference_ms']:.2f} ms). Machine: {verdict}. Other devices "
        "have other times and other ratios."
    )


def _data(record: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    is_reid = record["task"] == "reid"
    tested = (
        f"{data['probes']:,} queries against {data['references']:,} gallery images, of people that "
        "the training did not see"
        if is_reid
        else f"{data['probes']:,} validation images"
    )
    chosen = record["network"]["chosen_epoch"]
    on_test = (
        " The weights are those of the epoch that scored best on these images, so the scores are "
        "too high."
        if chosen and chosen["selected_on"] == "test"
        else ""
    )
    return (
        f"Scored and calibrated on `{data['name']}`: {data['train']:,} training images of "
        f"{data['classes']:,} {'people' if is_reid else 'classes'}; scores on {tested}.{on_test} "
        f"int8's ranges are from {record['calibration']['images']:,} training images. Digests of "
        "all lists of images are in `deploy.json`."
    )


def _recipe(recipe: Mapping[str, Any] | None) -> str:
    if recipe is None:
        return "Unknown: no configuration lay beside the weights."
    start = recipe.get("inputs", {}).get("start")
    begun = f"begun from weights of digest {start}" if start else "begun from random weights"
    kept = {key: value for key, value in recipe.items() if key not in _LEFT_OUT}
    data = {key: value for key, value in kept.get("data", {}).items() if key != "root"}
    text = yaml_text({**kept, "data": data})
    return f"`dcsnas retrain`, {begun}, with\n\n```yaml\n{text}```"


def _licences(name: str) -> str:
    return (
        f"- The scores hold for images like those of `{name}`. Other cameras, light, clothes or "
        "groups of people have other scores: measure them on your own images before use.\n"
        "- A threshold of `dcsnas calibrate` holds for the features of float32; int8 needs one of "
        "its own.\n"
        "- `run.py` and the code that made the models: MIT, as dcsnas. ONNX Runtime: MIT.\n"
        f"- The weights were made from `{name}`, and from what they were started with, if "
        "anything: the terms of those data sets and weights apply. **Add them here before you "
        "hand this folder on**; dcsnas does not know them."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
