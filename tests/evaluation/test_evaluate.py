"""The evaluate stage on a small network: what it states, its options, and the command's output."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from dcsnas.cli.main import run
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.config.stages import DataConfig, VariantConfig
from dcsnas.data.loading import ImageSet
from dcsnas.data.reid import Sample, read_reid
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.information import fisher_score
from dcsnas.evaluation.ranking import evaluate_retrieval
from dcsnas.evaluation.record import Evaluation, save_report
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.evaluation.reranking import KReciprocal
from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.nn.attention.selectors import GumbelSelector
from dcsnas.nn.build import build
from dcsnas.nn.heads import BNNeck, TaskNetwork
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice
from dcsnas.tasks.task import evaluate
from latency_fakes import fake_latency, fake_table, micro_space
from reid_data import SIZE, write_reid_set

SPACE = micro_space()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set and an untrained network."""
    root = tmp_path_factory.mktemp("evaluate")
    people = write_reid_set(root / "people", identities=6, images=4)
    gallery = people / "bounding_box_test"
    some = next(iter(sorted(gallery.iterdir())))
    for name in ("-1_c1s1_000001_00.jpg", "-1_c2s1_000002_00.jpg", "0000_c1s1_000003_00.jpg"):
        (gallery / name).write_bytes(some.read_bytes())
    file = architecture_of(SPACE, largest_choice(SPACE), table=fake_table(SPACE), seed=0)
    torch.manual_seed(0)
    backbone = build(file.network)
    neck = BNNeck(backbone.feature_dim, 6)
    torch.nn.init.uniform_(neck.norm.weight, 0.5, 1.5)
    network = TaskNetwork(backbone, neck)
    header = header_of("retrain", file, DataConfig(root=Path()), SIZE, 6)
    save_weights(root / "model.safetensors", network.state_dict(), header)
    return root


def run_evaluate(folder: Path, **options: Any) -> Evaluation:
    weights, people = folder / "model.safetensors", read_reid(folder / "people")
    return evaluate(weights, people, device="cpu", workers=0, ib_size=(4, 2), **options)


def extractor_of(folder: Path) -> Extractor:
    network, header, _ = load_reid_network(folder / "model.safetensors")
    return Extractor(
        network,
        size=header.input,
        mean=header.mean,
        std=header.std,
        device=torch.device("cpu"),
        workers=0,
    )


def neck_of(extractor: Extractor) -> BNNeck:
    assert isinstance(extractor.network.neck, BNNeck)
    return extractor.network.neck


def test_result_states_its_conditions(folder: Path) -> None:
    result = run_evaluate(folder, ap="trapezoid")
    save_report(folder / "metrics.json", result, {"measured_ms": 1.0})
    record = read_json(folder / "metrics.json")
    protocol = record["protocol"]
    assert protocol["feature"] == "after the neck's BatchNorm"
    assert (protocol["normalisation"], protocol["metric"]) == ("L2", "cosine")
    assert (protocol["ap_rule"], protocol["flip"], protocol["re_ranking"]) == (
        *("trapezoid", False, False),
    )
    assert protocol["camera_filter"] is True
    assert protocol["input"] == list(SIZE)
    assert "4x2" in protocol["information"]
    assert record["counts"] == {
        "train": 24, "query": 12, "gallery": 15, "train_identities": 6, "query_identities": 6,
    }  # fmt: skip
    assert record["evaluated"] == {
        "query": 12, "query_without_match": 0, "gallery": 13, "gallery_junk": 2,
        "right_pairs": 12, "wrong_pairs": 12 * 11,
    }  # fmt: skip
    assert record["data"]["name"] == "people"
    assert read_json(folder / "neighbours.json")["variant"] == VariantConfig().model_dump()
    assert len({record["data"][f"{part}_digest"] for part in ("train", "query", "gallery")}) == 3
    assert [point["fpr"] for point in record["roc"]] == [0.1, 0.01, 0.001, 0.0001]
    assert len(record["cmc"]) == protocol["max_rank"] == 50


def test_another_gallery_is_another_data_set(folder: Path, tmp_path: Path) -> None:
    other = write_reid_set(tmp_path / "people", identities=6, images=4)
    found = [
        evaluate(folder / "model.safetensors", read_reid(root), workers=0).data
        for root in (folder / "people", other)
    ]
    assert found[0]["query_digest"] == found[1]["query_digest"]
    assert found[0]["gallery_digest"] != found[1]["gallery_digest"]


def test_flip_is_the_mean_of_both_images(folder: Path) -> None:
    samples = read_reid(folder / "people").query
    plain = extractor_of(folder).embed(samples, lambda images: None)
    averaged = extractor_of(folder)
    heard: list[int] = []
    found = averaged.embed(samples, heard.append, flip=True)
    assert heard == [12]
    twice = averaged.network.eval()
    images = torch.stack([image_of(averaged, sample) for sample in samples])
    with torch.no_grad():
        expected = (twice.embed(images) + twice.embed(torch.flip(images, dims=[3]))) / 2
    torch.testing.assert_close(found.features, expected)
    assert not torch.allclose(found.features, plain.features, atol=1e-4)


def image_of(extractor: Extractor, sample: Sample) -> torch.Tensor:
    pixels = ImageSet([sample], extractor.size)[0][0]
    return extractor.normalize(pixels[None])[0]


def test_options_reach_the_numbers(folder: Path) -> None:
    plain, flipped = run_evaluate(folder), run_evaluate(folder, flip=True)
    settings = KReciprocal(k1=4, k2=2)
    reranked = run_evaluate(folder, rerank=settings)
    samples = read_reid(folder / "people")
    sets = [
        extractor_of(folder).embed(part, lambda images: None, flip=True)
        for part in (samples.query, samples.gallery)
    ]
    assert flipped.retrieval == evaluate_retrieval(sets[0], sets[1])
    assert flipped.record()["protocol"] != plain.record()["protocol"]
    assert reranked.record()["protocol"] == {
        **plain._protocol(), "re_ranking": {"k1": 4, "k2": 2, "weight": 0.3},
    }  # fmt: skip
    assert reranked.verification == plain.verification
    assert reranked.neighbours != plain.neighbours
    assert run_evaluate(folder, ap="trapezoid").retrieval.map < plain.retrieval.map


def test_fisher_score_is_of_the_queries_identities(folder: Path) -> None:
    data = read_reid(folder / "people")
    known = [*data.query, *(sample for sample in data.gallery if sample.identity > 0)]
    assert len(known) == 24
    images = extractor_of(folder).embed(known, lambda images: None)
    expected = fisher_score(images.features, images.identities)
    assert run_evaluate(folder).fisher_score == pytest.approx(expected)


def test_selected_channels_of_every_module(folder: Path) -> None:
    data = read_reid(folder / "people")
    extractor = extractor_of(folder)
    images = torch.stack([image_of(extractor, sample) for sample in (*data.query, *data.gallery)])
    expected = {}
    backbone: Any = extractor.network.backbone
    with torch.no_grad():
        x = images
        for index, layer in enumerate(backbone.layers):
            for selector in layer.selectors.values() if isinstance(layer, AttentionBlock) else ():
                assert isinstance(selector, GumbelSelector)
                chosen = selector.masking(selector.theta(x))
                expected[f"backbone.layers.{index}"] = (x.shape[1], float(chosen.mean()))
            x = layer(x)
    found = run_evaluate(folder).selected_channels
    assert len(expected) > 0
    assert {module.module: module.channels for module in found} == {
        name: channels for name, (channels, _) in expected.items()
    }
    for module in found:
        # a token near the threshold may fall to either side in another batch
        assert module.share == pytest.approx(expected[module.module][1], abs=1e-3)


def test_diverged_network_names_the_images(folder: Path) -> None:
    extractor = extractor_of(folder)
    torch.nn.init.constant_(neck_of(extractor).norm.weight, float("nan"))
    samples = read_reid(folder / "people").query
    found = extractor.embed(samples, lambda images: None)
    with pytest.raises(UserError, match=r"query features: 12 of 12 .*query/0007_c1s1"):
        evaluate_retrieval(found, found)


def test_command_prints_the_rules_and_writes_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    latency = fake_latency(1.0, {"batch": 1})

    def measure(path: Path, **options: Any) -> dict[str, Any]:
        assert read_json(folder / "command.json")["latency"] == {}  # kept before what may fail
        (folder / "neighbours.json").write_text("as they were")
        return latency

    monkeypatch.setattr("dcsnas.evaluation.speed.measure_latency", measure)
    arguments = ["evaluate", str(folder / "model.safetensors"), "--data", str(folder / "people")]
    options = ["--ap", "trapezoid", "--flip", "--rerank", "--workers", "0", "--device", "cpu"]
    monkeypatch.setattr(
        "sys.argv", ["dcsnas", *arguments, *options, "--out", str(folder / "command.json")]
    )
    with pytest.raises(SystemExit, match="0"):
        run()
    printed = capsys.readouterr().out
    record = read_json(folder / "command.json")
    assert record["latency"] == latency
    assert (folder / "neighbours.json").read_text() == "as they were"
    assert record["protocol"]["re_ranking"] == {"k1": 20, "k2": 6, "weight": 0.3}
    assert record["protocol"]["ap_rule"] == "trapezoid"
    assert record["protocol"]["flip"] is True
    assert "trapezoid AP, cosine, re-ranked, mirror images averaged" in printed
    assert "12 queries, 13 gallery images" in printed
    assert f"TPR {100 * record['roc'][0]['tpr']:6.2f} % at FPR 0.1" in printed
    for module in record["selected_channels"]:
        assert f"channels in {module['module']}" in printed
    assert record["map"] < 100


def test_features_after_the_neck_are_compared(folder: Path) -> None:
    samples = read_reid(folder / "people").query
    extractor = extractor_of(folder)
    found = extractor.embed(samples, lambda images: None)
    before, _, _ = extractor.information(samples, lambda images: None, ib_size=(4, 2))
    weight = neck_of(extractor).norm.weight.detach()
    # a fresh norm's statistics are 0 and 1
    torch.testing.assert_close(found.features, before * weight / (1 + 1e-5) ** 0.5)
    assert not torch.allclose(F.normalize(found.features), F.normalize(before), atol=1e-3)
