#!/usr/bin/env bash
# From a clone to the demo's result by the README's words alone, timed: install, first picture, all.
# Usage: benchmarks/newcomer.sh [FOLDER]    writes benchmarks/results/newcomer.json
# The clone is of this checkout's last commit, in a folder that must not exist (default: a new one
# in /tmp). Packages come from pip's cache where it has them; the JSON says how large that was.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)/dcsnas}
[ -e "$folder" ] && { echo "$folder: exists; give a folder that does not" >&2; exit 2; }

command=$(grep -m1 -oE '^make demo' "$here/README.md") # what a reader is told to type
cached=$(du -sk "$(python3 -m pip cache dir 2> /dev/null)" 2> /dev/null | cut -f1 || echo 0)
load=$(cut -d' ' -f1 /proc/loadavg)
began=$(date +%s.%N)
git clone --quiet "$here" "$folder"
cd "$folder"
cloned=$(date +%s.%N)
env -u PYTHONPATH -u VIRTUAL_ENV $command
ended=$(date +%s.%N)

PYTHONPATH= .venv/bin/python - "$here" "$began" "$cloned" "$ended" "$cached" "$load" <<'PY'
import json, os, subprocess, sys
from pathlib import Path

from dcsnas.latency.machine import cpu_name

here, (began, cloned, ended, cached, load) = Path(sys.argv[1]), map(float, sys.argv[2:])
(run,) = Path("runs").glob("demo-*")
installed = Path(".venv/installed").stat().st_mtime
first = min(path.stat().st_mtime for path in run.rglob("*.png"))
summary = json.loads((run / "summary.json").read_text())
commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
record = {
    "command": "make demo",
    "commit": commit,
    "date": json.loads((run / "search" / "environment.json").read_text())["started"],
    "clone_s": cloned - began,
    "install_s": installed - cloned,
    "first_picture_s": first - installed,
    "demo_s": ended - installed,
    "all_s": ended - began,
    "conditions": {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "python": sys.version.split()[0],
        "pip_cache_mb": cached / 1024,
    },
    "summary": summary,
}
out = here / "benchmarks" / "results" / "newcomer.json"
out.write_text(json.dumps(record, indent=2) + "\n")
print(json.dumps({key: value for key, value in record.items() if key.endswith("_s")}, indent=2))
print(out)
PY
