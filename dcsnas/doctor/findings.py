"""A finding about this machine, and what all of them mean for the stages."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dcsnas import __version__

State = Literal["ok", "note", "problem"]
"""ok: nothing to do. note: something is slower, or missing where it is optional. problem: a stage
cannot run."""

TRAINING = ("search", "pretrain", "retrain", "tune-eta", "ablate", "evaluate")
NETWORKS = (*TRAINING, "derive", "profile", "plot", "export", "demo", "experiment")
"""The stages that import torch."""
STAGES = ("data", "profile", "search", "derive", "pretrain", "retrain", "tune-eta", "ablate",
          "evaluate", "export", "plot", "demo", "experiment")  # fmt: skip
"""In the order of the flow."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do where something is wrong.

    ``stops`` are the stages that cannot run, of a problem alone. ``facts`` are plain values for
    scripts; sizes in bytes.
    """

    name: str
    state: State
    text: str
    advice: str = ""
    stops: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert (self.state == "ok") == (not self.advice), "what is not ok says what to do"
        assert (self.state == "problem") == bool(self.stops), "a problem stops a stage"


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and what they mean for the stages."""

    findings: Sequence[Finding]

    @property
    def device(self) -> str:
        """Return what trainings would run on; nothing where torch cannot say it."""
        torch = next((f for f in self.findings if f.name == "torch"), None)
        if torch is None or torch.state == "problem":
            return ""
        names = torch.facts.get("devices")
        return f"CUDA ({names[0]})" if names else "the CPU"

    def lacking(self, stage: str) -> list[str]:
        """Return the names of the problems for which a stage cannot run."""
        return [finding.name for finding in self.findings if stage in finding.stops]

    @property
    def sound(self) -> bool:
        """Return whether every stage can run."""
        return not any(finding.stops for finding in self.findings)

    def uses(self, stage: str) -> str:
        """Return what a stage would use here; nothing where it takes no more than any other."""
        if stage in TRAINING:
            threads = self._fact("torch", "threads")
            return f"{self.device}, {threads} threads" if threads else self.device
        if stage == "profile":
            return f"backends {', '.join(self._fact('latency backends', 'dtypes') or ())}"
        if stage == "export":
            return f"onnxruntime {self._fact('ONNX', 'onnxruntime')}"
        if stage == "experiment":
            return f"NNI {self._fact('NNI', 'version')}, port {self._fact('NNI', 'port')}"
        return ""

    def in_words(self, stage: str) -> str:
        """Return whether a stage can run, on what, or what it lacks."""
        if missing := self.lacking(stage):
            return f"cannot run: {', '.join(missing)}"
        used = self.uses(stage)
        return f"can run: {used}" if used else "can run"

    def _fact(self, name: str, key: str) -> Any:
        return next((f.facts.get(key) for f in self.findings if f.name == name), None)

    def record(self) -> dict[str, Any]:
        """Return plain values: one object for scripts."""
        stages = {
            stage: {
                "runs": not self.lacking(stage),
                "uses": "" if self.lacking(stage) else self.uses(stage),
                "lacks": self.lacking(stage),
            }
            for stage in STAGES
        }
        return {
            "schema_version": 1,
            "dcsnas": __version__,
            "sound": self.sound,
            "device": self.device or None,
            "findings": [asdict(finding) for finding in self.findings],
            "stages": stages,
        }
