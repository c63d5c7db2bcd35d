"""Every reader of a file that a user may have from somebody else, with a valid file for each."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from dcsnas.config.files import read_json, read_yaml, write_yaml
from dcsnas.config.jsonl import drop_torn_line, keep_records, read_records
from dcsnas.config.search import search_model
from dcsnas.config.stages import DataConfig, VariantConfig, train_model
from dcsnas.config.strict import load_with_overrides
from dcsnas.config.tuning import TuneEtaConfig
from dcsnas.data.check import check_reid
from dcsnas.data.class_names import listed_classes
from dcsnas.data.decoding import decode_rgb
from dcsnas.data.image_folder import read_image_folder
from dcsnas.data.reid import read_reid
from dcsnas.experiments.database import Database
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import training_service
from dcsnas.experiments.settings import read_sweep
from dcsnas.latency.plans.results import make_table, read_results
from dcsnas.latency.plans.trtexec import _times
from dcsnas.latency.profiler import Header, SpaceId, load_progress
from dcsnas.latency.samples import DEFAULT_SETTINGS
from dcsnas.latency.table import TableFile, load_table, save_table, validate_briefly
from dcsnas.nn.build import build
from dcsnas.nn.weights import header_of, load_network, read_header, save_weights
from dcsnas.reports.experiments import find_runs
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import load_architecture, save_architecture
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.space import SearchSpace
from dcsnas.tasks.reid import REID
from dcsnas.training.ablation.settings import read_ablation, variants_of
from dcsnas.training.checkpoint import RunCheckpoint
from dcsnas.zoo.weights import load_plain_state
from experiment_setup import TABLES, sweep_content
from faults.stages import VARIANTS
from fuzz import detection_readers
from fuzz.kinds import Reader
from latency_fakes import CONDITIONS, fake_table, micro_space
from plan_fakes import SPACE, fake_results, write_micro_plan
from reid_data import (
    write_csv_set,
    write_cuhk03_splits,
    write_msmt17,
)
from search_setup import small_search

FILE = architecture_of(SPACE, largest_choice(SPACE), table=fake_table(SPACE), seed=0)


def _yaml(content: Any) -> Callable[[Path], Path]:
    return partial(_written, name="file.yaml", text=yaml.safe_dump(content, sort_keys=False))


def _json(content: Any) -> Callable[[Path], Path]:
    return partial(_written, name="file.json", text=json.dumps(content))


def _written(folder: Path, *, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _space(path: Path) -> None:
    space = SearchSpace.load(path)
    assert space.decisions is not None
    space.described(largest_choice(space), space.size)


def _search(**changes: Any) -> Any:
    return small_search(Path("."), **changes).model_dump(mode="json")


def _architecture(folder: Path) -> Path:
    save_architecture(folder / "architecture.yaml", FILE)
    return folder / "architecture.yaml"


def _table(folder: Path) -> Path:
    save_table(folder / "table.json", fake_table(SPACE).file)
    return folder / "table.json"


def _without_digest(path: Path) -> None:
    """Read a table as if its digest were right: what a forger would see to."""
    data = read_json(path)
    data.pop("digest", None)
    validate_briefly(TableFile, data, path)


def _partial(folder: Path) -> Path:
    header = Header(space=SpaceId.of(SPACE), conditions=CONDITIONS, settings=DEFAULT_SETTINGS)
    content = {"header": header.model_dump(mode="json"), "rounds_done": 0, "reference": None,
               "entries": {}, "failed": {}, "samples": {}, "halves": [0, 0]}  # fmt: skip
    return _written(folder, name="table.json.partial", text=json.dumps(content))


def _load_partial(path: Path) -> None:
    header = Header(space=SpaceId.of(SPACE), conditions=CONDITIONS, settings=DEFAULT_SETTINGS)
    load_progress(path.with_name("table.json"), header)


def _weights(folder: Path) -> Path:
    data = DataConfig(root=Path("people"))
    header = header_of("import", FILE, data, FILE.input, num_classes=0)
    save_weights(folder / "w.safetensors", build(FILE.network).state_dict(), header)
    return folder / "w.safetensors"


def _load_weights(path: Path) -> None:
    read_header(path)
    load_network(path, REID.head)


def _foreign(folder: Path) -> Path:
    state = {"conv.weight": torch.zeros(2, 3, 1, 1), "bn.bias": torch.zeros(2)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "w.pth")
    return folder / "w.pth"


def _foreign_safetensors(folder: Path) -> Path:
    save_file({"a": torch.zeros(2)}, folder / "w.safetensors", metadata={"format": "pt"})
    return folder / "w.safetensors"


def _log(path: Path) -> None:
    read_records(path)
    drop_torn_line(path)
    keep_records(path, 1)


def _image(suffix: str, mode: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        Image.effect_noise((24, 16), 60).convert(mode).save(folder / f"image{suffix}")
        return folder / f"image{suffix}"

    return prepare


def _decode(path: Path) -> None:
    decode_rgb(path)
    decode_rgb(path, (8, 4))


def _classes(folder: Path) -> Path:
    return _written(folder, name="classes.txt", text="n01440764 tench\nn01443537\ncat\n")


def _list_of_classes(path: Path) -> None:
    listed_classes(path, ["n01440764", "n01443537", "cat"], Path("train"))


def _set_file(write: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        write(folder)
        return folder / name

    return prepare


def _names(folder: Path) -> Path:
    names = ["0001_c1s1_000001_00.jpg", "0002_c2s1_000002_00.jpg", "0002_c3.jpg", "Thumbs.db"]
    return _written(folder, name="names.txt", text="\n".join(names))


def _named(root: Path, names: Path, parts: tuple[str, ...]) -> None:
    """Make empty files of these names in each of ``parts``, anew."""
    words = [line.strip().replace("/", "_").replace("\0", "") for line in _lines(names)]
    for part in parts:
        folder = root / part
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for word in words[:12]:
            if word.strip(".") and len(os.fsencode(word)) < 200:
                (folder / word).touch()


def _lines(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8", "surrogateescape").split("\n")


def _market(path: Path) -> None:
    root = path.parent / "market"
    _named(root, path, ("bounding_box_train", "query", "bounding_box_test"))
    check_reid(root)
    read_reid(root)


def _folders(path: Path) -> None:
    root = path.parent / "classes"
    _named(root, path, ("train/a", "train/b", "val/a", "val/b"))
    read_image_folder(root)


def _csv(folder: Path) -> Path:
    return write_csv_set(folder, identities=2)


def _plan(folder: Path) -> Path:
    plan = write_micro_plan(folder / "plan")
    results = json.dumps(fake_results(plan))
    return _written(folder, name="results.json", text=results)


def _results(path: Path) -> None:
    make_table(read_results(path), SPACE, path.with_name("table.json"))


def _database(folder: Path) -> Path:
    path = folder / "nni.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(TABLES)
        data = json.dumps({"parameters": {"weight": 1}})
        database.execute(
            "insert into TrialJobEvent (trialJobId, event, data, sequenceId) values (?, ?, ?, ?)",
            ("a", "SUCCEEDED", data, 0),
        )
        database.execute(
            "insert into MetricData (trialJobId, type, sequence, data) values (?, ?, ?, ?)",
            ("a", "FINAL", 0, json.dumps(json.dumps({"default": 1}))),
        )
    return path


def _trials(path: Path) -> None:
    Database(path).trials()
    Database(path).begun()


def _metrics(path: Path) -> None:
    """Read one text as each value of NNI's database that holds JSON."""
    text, database = path.read_bytes().decode("utf-8", "replace"), path.with_name("one.sqlite")
    database.unlink(missing_ok=True)
    _database(path.parent).rename(database)
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("update TrialJobEvent set data = ?", (text,))
        opened.execute("update MetricData set data = ?", (text,))
    _trials(database)


def _run(name: str) -> Callable[[Path], Path]:
    """Return what writes the folder of a run, of which the file ``name`` is mutated."""

    def prepare(folder: Path) -> Path:
        run = folder / "runs" / "retrain-0000-small"
        run.mkdir(parents=True)
        write_yaml(run / "config.yaml", {"stage": "retrain", "epochs": 2, "task": "reid"})
        save_architecture(run / "architecture.yaml", FILE)
        files = {
            "inputs.json": {"data": {"digest": "0", "source": "people", "facts": {}, "key": ""}},
            "environment.json": {"dcsnas": "0.2", "started": "2026-11-28T00:00:00", "device": "x"},
            "metrics.json": {"map": 0.5, "latency": {"measured_ms": 1.0, "predicted_ms": 2.0}},
        }
        for file, content in files.items():
            (run / file).write_text(json.dumps(content))
        (run / "metrics.jsonl").write_text('{"epoch": 1, "validation/map": 0.5}\n')
        return run / name

    return prepare


def _found(path: Path) -> None:
    list(find_runs(path.parents[1]))


def _experiment(name: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        (folder / "id.json").write_text('{"id": "abc"}')
        record = {"url": "http://localhost:8080", "host": "127.0.0.1", "port": 8080}
        (folder / "manager.json").write_text(json.dumps(record))
        return folder / name

    return prepare


def _experiment_files(path: Path) -> None:
    folder = ExperimentFolder(path.parent)
    assert folder.id
    assert folder.url
    assert folder.trial_url
    assert folder.database()


TRAINING = {"data": {"root": "people"}, "epochs": 2}
BATCH = {"batch": {"identities": 4, "images": 2}, "loss": {"ib_size": [4, 2]}}
ABLATION = {"recipe": {**TRAINING, **BATCH}, "seeds": [0], "variants": {
    name: {**one, "network": "tiny"} for name, one in VARIANTS.items()
}}  # fmt: skip
SERVICE = {"platform": "remote", "machine_list": [{"host": "10.0.0.2", "user": "me"}]}


def _configured(stage: str) -> Callable[[Path], Any]:
    return lambda path: load_with_overrides(partial(train_model, stage), path, [])


READERS: dict[str, Reader] = {
    "space": Reader(_yaml(micro_space().file.model_dump(mode="json")), _space),
    "search": Reader(_yaml(_search()), lambda p: load_with_overrides(search_model, p, [])),
    "retrain": Reader(_yaml({**TRAINING, **BATCH}), _configured("retrain")),
    "pretrain": Reader(_yaml({**TRAINING, "batch_size": 8}), _configured("pretrain")),
    "tune-eta": Reader(
        _yaml({**TRAINING, **BATCH, "etas": [0, 0.1]}),
        lambda path: load_with_overrides(TuneEtaConfig, path, []),
    ),
    "architecture": Reader(_architecture, load_architecture),
    "table": Reader(_table, load_table),
    "forged table": Reader(_table, _without_digest),
    "unfinished table": Reader(_partial, _load_partial),
    "weights": Reader(_weights, _load_weights),
    "foreign weights": Reader(_foreign, load_plain_state),
    "foreign safetensors": Reader(_foreign_safetensors, load_plain_state),
    "checkpoint": Reader(_foreign, lambda path: RunCheckpoint("run").load_checkpoint(path)),
    "log": Reader(
        partial(_written, name="log.jsonl", text='{"epoch": 1, "loss": 1.0}\n{"epoch": 2}\n'), _log
    ),
    "csv": Reader(_csv, read_reid),
    "market": Reader(_names, _market),
    "class folders": Reader(_names, _folders),
    "list of classes": Reader(_classes, _list_of_classes),
    "msmt17": Reader(_set_file(write_msmt17, "list_train.txt"), lambda p: read_reid(p.parent)),
    "cuhk03": Reader(
        _set_file(write_cuhk03_splits, "splits_new_detected.json"),
        lambda path: read_reid(path.parent, VariantConfig(cuhk03="detected")),
    ),
    "jpeg": Reader(_image(".jpg", "RGB"), _decode),
    "png": Reader(_image(".png", "P"), _decode),
    "bmp": Reader(_image(".bmp", "RGB"), _decode),
    "tiff": Reader(_image(".tiff", "I;16"), _decode),
    "gif": Reader(_image(".gif", "P"), _decode),
    "webp": Reader(_image(".webp", "RGB"), _decode),
    "ppm": Reader(_image(".ppm", "RGB"), _decode),
    "sweep": Reader(_yaml(sweep_content()), read_sweep),
    "training service": Reader(_yaml(SERVICE), lambda p: training_service(read_yaml(p), p)),
    "ablation": Reader(_yaml(ABLATION), lambda p: variants_of(read_ablation(str(p)))),
    "plan's results": Reader(_plan, _results),
    "trtexec's times": Reader(_json([{"computeMs": 1.5}]), _times),
    "database": Reader(_database, _trials),
    "metrics of the database": Reader(_json({"parameters": {"weight": 1}}), _metrics),
    "id of an experiment": Reader(_experiment("id.json"), _experiment_files),
    "manager of an experiment": Reader(_experiment("manager.json"), _experiment_files),
    **{
        f"run's {name}": Reader(_run(name), _found)
        for name in ("config.yaml", "metrics.jsonl", "metrics.json", "environment.json")
    },
    **detection_readers.READERS,
}
