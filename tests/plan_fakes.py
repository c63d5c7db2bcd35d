"""A small plan, and the results of the fake device of ``latency_fakes`` for it."""

from pathlib import Path
from typing import Any

from dcsnas.latency.plans.plan import Plan, Wanted, plan_settings, write_plan
from dcsnas.spaces.network import walk
from dcsnas.spaces.space import SearchSpace, space_operators
from latency_fakes import fake_ms, micro_space

SPACE = micro_space()
RUNTIME = {
    "device": "cpu",
    "device_name": "fake board (aarch64, 4 CPUs)",
    "system": "Linux-6.1-aarch64",
    "backend": "onnxruntime",
    "backend_version": "1.20.1",
    "provider": "CPUExecutionProvider",
    "threads": 1,
    "allocator": "glibc mmap_max=0",
    "affinity": None,
}


def write_micro_plan(folder: Path) -> Plan:
    """Write a plan of the space of 72 networks, with two rounds, all operators."""
    return write_plan(
        SPACE,
        folder,
        attention=None,
        wanted=Wanted(threads=1, batch=1, input=SPACE.size),
        settings=plan_settings(rounds=2, sparse=False),
    )


def network_ms(choice: dict[str, Any], space: SearchSpace = SPACE) -> float:
    """Return a network's time on the fake device: 1.3 times its operators' and 0.2 ms."""
    layers = space.architecture(choice).layers
    return 1.3 * sum(map(fake_ms, walk(layers, space.size))) + 0.2


def model_ms(plan: Plan) -> dict[str, float]:
    """Return the time of each model but the reference on the fake device, by file."""
    operators = space_operators(SPACE, SPACE.size)
    times = {m.file: fake_ms(operators[m.key]) for m in plan.of_role("operator")}
    return times | {m.file: network_ms(m.choice or {}) for m in plan.of_role("network")}


def fake_results(plan: Plan) -> dict[str, Any]:
    """Return what ``run.py`` would write on the fake device, whose reference takes 0.5 ms."""
    passes = {"operator": 1, "network": plan.passes}
    rounds = {"operator": plan.settings.rounds, "network": plan.network_rounds // plan.passes}
    readings = {
        m.file: [[[ms, 0.5]] * rounds[m.role]] * passes[m.role]
        for m, ms in zip(plan.models[1:], model_ms(plan).values(), strict=True)
    }
    return {
        "schema_version": 1,
        "unit": "ms",
        "plan": plan.model_dump(mode="json"),
        "runtime": dict(RUNTIME),
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:10:00+00:00",
        "reference": [0.5, 0.5],
        "readings": readings,
        "failed": {},
    }
