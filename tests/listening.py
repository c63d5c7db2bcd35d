"""``python listening.py COMMAND ...``: run a command alone in a network, and say where it listens.

It prints one JSON object: the command's exit code, and every (address, port, program) at which
anything in the network listened, asked every POLL_S by ``ss -ltnp``. Start it under ``unshare
--net``, with ``loopback up`` as the first thing that it does: nothing but the command is there.
"""

import json
import re
import subprocess
import sys
import time

POLL_S = 0.02
LINE = re.compile(r'LISTEN +\d+ +\d+ +(\S+):(\d+) +\S+(?: +users:\(\("([^"]+)")?')


def main(command: list[str]) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    found: set[tuple[str, int, str]] = set()
    process = subprocess.Popen(command, stdout=sys.stderr)
    looks = 0
    while process.poll() is None:
        found |= listeners()
        looks += 1
        time.sleep(POLL_S)
    print(json.dumps({"code": process.returncode, "looks": looks, "listeners": sorted(found)}))


def listeners() -> set[tuple[str, int, str]]:
    """Return (address, port, program) of everything in this network that listens now."""
    shown = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    matches = [LINE.match(line) for line in shown.splitlines()]
    assert all(matches), shown
    return {(m[1], int(m[2]), m[3] or "") for m in matches if m}


if __name__ == "__main__":
    main(sys.argv[1:])
