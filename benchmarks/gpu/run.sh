#!/bin/sh
# Everything that only a GPU can show, in nine minutes: benchmarks/gpu/run.sh OUT [--data SET].
# On a machine without a network, pack.sh has to be run first on another one, and the folder copied.
# With --cpu all of it runs at tiny sizes without a GPU. parts.py says more.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
wheels=${WHEELS:-$root/benchmarks/gpu/wheels}
path=$root
if [ -d "$wheels" ]; then
  # no environment: made from within another, it would not see that one's torch
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --disable-pip-version-check --upgrade --target "$site" "$wheels"/*.whl
  path=$root:$site
fi
PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 \
  "$python" "$root/benchmarks/gpu/parts.py" "$@"
