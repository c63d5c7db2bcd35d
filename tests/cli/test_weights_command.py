"""``dcsnas weights import`` of torchreid's and timm's files, evaluated afterwards."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchreid_reference import recorded, torchreid_images, torchreid_state

from dcsnas.cli.main import run
from dcsnas.nn.build import build
from dcsnas.nn.weights import load_network, read_header, read_state
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.space import load_space
from dcsnas.tasks.task import find_task
from reid_data import write_reid_set

Command = Callable[..., str]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that a test works in, with torchreid's HA-CNN as its training wrote it."""
    monkeypatch.chdir(tmp_path)
    state = {f"module.{name}": tensor for name, tensor in torchreid_state("hacnn").items()}
    torch.save({"state_dict": state, "epoch": 300}, "hacnn.pth.tar")
    return tmp_path


@pytest.fixture
def dcsnas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command to its end and returns what it shows."""

    def command(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        assert stop.value.code == 0
        return capsys.readouterr().out

    return command


def test_torchreids_hacnn_evaluates(work: Path, dcsnas: Command) -> None:
    shown = dcsnas(
        "weights", "import", "hacnn.pth.tar", "--arch", "hacnn", "--out", "h.safetensors"
    )
    assert "456 of 456 tensors of the network agree with one of the 460 of the file" in shown
    assert (
        "left out as a classifier: classifier_global.weight, classifier_global.bias, "
        "classifier_local.weight, classifier_local.bias\n"
    ) in shown
    assert "dcsnas evaluate h.safetensors --data DIR" in shown
    header = read_header(Path("h.safetensors"))
    assert (header.stage, header.input, header.num_classes) == ("import", (160, 64), 0)
    used = load_network(Path("h.safetensors"), find_task("reid").head)
    with torch.no_grad():
        # the file has float32, since its network computes in that
        features = used.network.double().eval().embed(torchreid_images("hacnn"))
    first = torch.tensor(recorded("hacnn")["first_8"], dtype=torch.float64)
    torch.testing.assert_close(features[:, :8], first, rtol=0, atol=1e-6)
    write_reid_set(work / "people", identities=4, images=3)
    dcsnas("evaluate", "h.safetensors", "--data", "people", "--workers", "0", "--no-latency")
    metrics = json.loads(Path("metrics.json").read_text())
    assert metrics["protocol"]["feature"] == "2 parts, the backbone's"
    assert metrics["protocol"]["input"] == [160, 64]
    assert 0 < metrics["map"] <= 100


def test_first_weights_of_an_architecture_with_attention(work: Path, dcsnas: Command) -> None:
    space = load_space("hacnn", "sa")
    save_architecture("sa.yaml", space.described({}, space.size))
    out = Path("sa.safetensors")
    shown = dcsnas("weights", "import", "hacnn.pth.tar", "--arch", "sa.yaml", "--out", str(out))
    assert "or: dcsnas retrain CONFIG --arch sa.yaml --from sa.safetensors" in shown
    state, theirs = read_state(out), torchreid_state("hacnn")
    assert torch.equal(state["trunk.fc_global.0.weight"], theirs["fc_global.0.weight"].float())
    assert not state["attentions.2.norm.weight"].any(), "new attention is the identity"
    plain = ("weights", "import", "hacnn.pth.tar", "--arch", "hacnn", "--out", "plain.safetensors")
    dcsnas(*plain)
    images, head = torch.randn(2, 3, 160, 64), find_task("reid").head
    with torch.no_grad():
        found, expected = (
            load_network(path, head).network.eval().embed(images)
            for path in (out, Path("plain.safetensors"))
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(F.normalize(found[:, :512]), found[:, :512])


def test_a_part_has_to_be_asked_for(work: Path, dcsnas: Command, fails: Callable[..., str]) -> None:
    state = torchreid_state("hacnn")
    torch.save({n: t for n, t in state.items() if "ha3" not in n}, "part.pth")
    importing = ("weights", "import", "part.pth", "--arch", "hacnn", "--out", "p.safetensors")
    message = fails(*importing)
    assert "part.pth: 424 of 456 tensors of the network agree" in message
    assert "not in the file: ha3 (32 tensors)" in message
    assert "--partial takes what agrees" in message
    shown = dcsnas(*importing, "--partial")
    assert "not in the file: ha3 (32 tensors)" in shown, "never silently"
    state = read_state(Path("p.safetensors"))
    assert torch.equal(state["trunk.ha3.hard_attn.fc.weight"], torch.zeros(8, 384))


def test_mistakes(work: Path, fails: Callable[..., str]) -> None:
    importing = ("weights", "import", "hacnn.pth.tar", "--out", "w.safetensors", "--arch")
    assert "no search space called 'hacn'" in fails(*importing, "hacn")
    message = fails(*importing, "tiny")
    assert message == (
        "error: --arch tiny: a space of many networks; give the architecture.yaml of one\n"
    )
    assert "absent.yaml: no such file" in fails(*importing, "absent.yaml")
    assert "weights of another network: 0 of" in fails(*importing, "mobilenetv2_035")
    published = ("weights", "import", "--arch", "hacnn", "--out", "w.safetensors")
    assert "no weights are published that dcsnas can fetch; give a file" in fails(*published)


def test_files_of_timm(work: Path, dcsnas: Command) -> None:
    network = load_space("mobilenetv2_035").without_attention().any_architecture
    trunk = build(network).get_submodule("trunk")
    theirs = {**trunk.state_dict(), "classifier.weight": torch.zeros(1000, 1280)}
    torch.save(theirs, "timm.pth")
    dcsnas("weights", "import", "timm.pth", "--arch", "mobilenetv2_035", "--out", "m.safetensors")
    state = read_state(Path("m.safetensors"))
    assert all(torch.equal(state[f"trunk.{name}"], t) for name, t in trunk.state_dict().items())


def test_another_input_is_refused_before_a_run(work: Path, fails: Callable[..., str]) -> None:
    space = load_space("hacnn")
    save_architecture("hacnn.yaml", space.described({}, space.size))
    write_reid_set(work / "people", identities=4, images=3)
    content = {"data": {"root": "people", "workers": 0}, "epochs": 1, "input": [256, 128]}
    Path("train.yaml").write_text(json.dumps(content))
    expected = "backbone hacnn: images of 256x128; its regions are laid out for 160x64 alone"
    assert expected in fails("retrain", "train.yaml", "--arch", "hacnn.yaml")
    assert expected in fails("sample", "hacnn", "--input", "256x128", "--out", "other.yaml")
