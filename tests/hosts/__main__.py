"""Cases on two hosts again and again: ``python -m hosts --runs 20``; root, and PYTHONPATH=tests.

Each case is appended to ``--out``, and a later call goes on from there. It ends with one line of
counts, and with exit code 1 where a case went wrong.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dcsnas.config.files import read_json, write_json
from hosts.cases import KINDS, Case, run_case
from hosts.network import Host, missing, network
from hosts.runs import STAGES, run_stage, write_inputs


def main() -> None:
    """Run the cases that ``--out`` lacks."""
    parser = argparse.ArgumentParser(prog="python -m hosts", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="cases of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--out", type=Path, default=Path("hosts.json"))
    given = parser.parse_args()
    if lacking := missing():
        sys.exit(lacking)
    with TemporaryDirectory(prefix="dcsnas-hosts-") as folder, network(2) as hosts:
        _measure(hosts, write_inputs(Path(folder)), given.kinds, given.runs, given.out)
    cases = _cases(given.out)
    print(json.dumps(_counts(cases)))
    sys.exit(any(case["wrong"] for case in cases))


def _measure(
    hosts: Sequence[Host], folder: Path, kinds: Sequence[str], runs: int, out: Path
) -> None:
    wanted = [(kind, seed) for seed in range(runs) for kind in kinds]
    known = {(case["kind"], case["seed"]) for case in _cases(out)}
    missing = [one for one in wanted if one not in known]
    for stage in {STAGES[seed % len(STAGES)] for _, seed in missing}:
        for end in run_stage(hosts[:1], stage, folder, f"one-{stage}", devices=2):
            assert end.code == 0, end.output
    for kind, seed in missing:
        try:
            case = run_case(hosts, folder, kind, seed, "one")
        except AssertionError as error:  # it ended before anything was done to it
            case = Case(kind, STAGES[seed % len(STAGES)], seed, wrong=[str(error)[-2000:]])
        print(json.dumps(case.record()), flush=True)
        write_json(out, {"cases": [*_cases(out), case.record()]})


def _cases(out: Path) -> list[dict]:
    return read_json(out)["cases"] if out.exists() else []


def _counts(cases: Sequence[dict]) -> dict[str, int | float]:
    counts: dict[str, int | float] = {}
    for kind in KINDS:
        of_kind = [case for case in cases if case["kind"] == kind]
        counts[kind] = len(of_kind)
        counts[f"{kind}_well"] = sum(not case["wrong"] for case in of_kind)
    counts["longest_s"] = max((case["seconds_left"] for case in cases), default=0.0)
    return counts


if __name__ == "__main__":
    main()
