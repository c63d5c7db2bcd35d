#!/bin/sh
# Downloads what dcsnas needs beyond a machine with torch, Lightning, onnxruntime, timm, scikit-learn
# and pytest, into benchmarks/gpu/wheels, for run.sh on such a machine without a network.
# benchmarks/gpu/pack.sh [PYTHON]: for version 3.12 of Python on x86-64 Linux unless given.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
wheels=$root/benchmarks/gpu/wheels
version=${1:-3.12}
needed="nni json-tricks schema websockets typeguard filelock kornia kornia_rs pydantic pydantic_core
  annotated-types typing-inspection typing_extensions"
rm -rf "$wheels"
platforms=
for tag in 2_28 2_27 2_17; do platforms="$platforms --platform manylinux_${tag}_x86_64"; done
for tag in 2014 1; do platforms="$platforms --platform manylinux${tag}_x86_64"; done
# in the versions of constraints.txt; without needs, which would bring torch and its CUDA packages
pinned=
for name in $needed; do
  pinned="$pinned $(grep -i "^$(echo "$name" | tr _- ..)==" "$root/constraints.txt")"
done
# shellcheck disable=SC2086 # words, meant so
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
  --python-version "$version" $platforms --dest "$wheels" $pinned
# NNI's web server is 59 of its 61 MB, and no search needs it
"${PYTHON:-python3}" - "$wheels"/nni-*.whl <<'PYTHON'
import sys
import zipfile
from pathlib import Path

path = Path(sys.argv[1])
with zipfile.ZipFile(path) as whole, zipfile.ZipFile(path.with_suffix(".slim"), "w", 8) as slim:
    for name in whole.namelist():
        content = whole.read(name)
        if name.endswith(".dist-info/RECORD"):
            lines = content.splitlines(keepends=True)
            content = b"".join(line for line in lines if not line.startswith(b"nni_node/"))
        if not name.startswith("nni_node/"):
            slim.writestr(name, content)
path.with_suffix(".slim").replace(path)
PYTHON
du -sh "$wheels"
