"""Times the models of this folder on this device: ``python3 run.py``. It needs onnxruntime alone.

A process times a few models in shuffled rounds, a reference before and after each sample. After
every process ``results.json`` is whole: stop this at any time, and run it again to go on.
"""

import hashlib
import json
import math
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

try:
    import numpy as np
    import onnxruntime as ort
except ImportError:
    sys.exit("run.py: onnxruntime is missing: pip install onnxruntime")

HERE = Path(__file__).resolve().parent
PROVIDER, NOW = "CPUExecutionProvider", "%Y-%m-%dT%H:%M:%S+00:00"


def prepare(plan, model):
    """Warm a model up on random input and return what takes a sample: milliseconds of one run."""
    options, threads = ort.SessionOptions(), plan["wanted"]["threads"]
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    # the threads of one session must not spin while another is timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(str(HERE / model["file"]), options, providers=[PROVIDER])
    binding, output = session.io_binding(), session.get_outputs()[0]
    images = np.random.default_rng(0).standard_normal(model["input"], dtype=np.float32)
    features = ort.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32)
    given = ort.OrtValue.ortvalue_from_numpy(images)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, given)
    binding.bind_ortvalue_output(output.name, features)
    # a single thread's own time does not run while others have the processor
    clock = time.thread_time if threads == 1 else time.perf_counter

    def sample(repeats):
        session.run_with_iobinding(binding)  # not timed: it fills the caches
        start = clock()
        for _ in range(repeats):
            session.run_with_iobinding(binding)
        return max(1e-6, (clock() - start) * 1000 / repeats)

    took = [sample(1) for _ in range(plan["settings"]["warmup_runs"] + 4)]
    while len(took) < 100 and min(took[-3:]) < 0.95 * min(took[:-3]):  # it still gets faster
        took.append(sample(1))
    repeats = min(10000, max(1, math.ceil(plan["settings"]["min_sample_ms"] / min(took))))
    return lambda: sample(repeats)


def measure(plan, files):
    """Print readings [ms, reference ms] of models that take turns in this process, as JSON."""
    models = {model["file"]: model for model in plan["models"]}
    reference = prepare(plan, next(m for m in plan["models"] if m["role"] == "reference"))
    role, samples, failed, beside = models[files[0]]["role"], {}, {}, []
    for file in files:
        try:
            samples[file] = prepare(plan, models[file])
        except Exception as error:  # onnxruntime's errors have no class in common
            if role == "network":
                raise
            failed[file] = str(error).strip().partition("\n")[0] or repr(error)
    of_networks = math.ceil(plan["network_rounds"] / plan["passes"])
    rounds = of_networks if role == "network" else plan["settings"]["rounds"]
    readings, rng = {file: [] for file in samples}, random.Random(plan["settings"]["seed"])
    for _ in range(rounds):
        around = [reference()]
        for file in rng.sample(list(samples), len(samples)):
            ms = samples[file]()
            around.append(reference())
            readings[file].append([ms, (around[-2] + around[-1]) / 2])
        beside.append(statistics.median(around))
    level = beside if role == "operator" else []
    print(json.dumps({"readings": readings, "failed": failed, "reference": level}))


def groups_left(plan, results):
    """Return the models of each process that is left, of operators and then of networks."""
    failed, readings, left = results["failed"], results["readings"], []
    operators = [HERE / m["file"] for m in plan["models"] if m["role"] == "operator"]
    mib = max(2 * path.stat().st_size / 2**20 + 1 for path in operators)  # of the heaviest
    fits = max(1, min(32, int(plan["settings"]["block_mib"] / mib)))
    together = {"operator": (1, fits), "network": (plan["passes"], plan["together"])}
    for role, (passes, size) in together.items():
        files = [m["file"] for m in plan["models"] if m["role"] == role]
        for number in range(passes):
            order = random.Random("%s %d" % (role, number)).sample(files, len(files))
            groups = [order[start : start + size] for start in range(0, len(order), size)]
            lacks = {f for f in files if f not in failed and len(readings.get(f, [])) <= number}
            left += [group for group in groups if lacks.intersection(group)]
    return left


def runtime(plan):
    """Return what the times depend on: the device, its software, threads and memory."""
    needed, opset, version = plan["onnxruntime"], plan["opset"], ort.__version__
    if [int(n) for n in re.findall(r"\d+", version)[:2]] < needed:
        wrong = "run.py: onnxruntime %s does not read opset %d of these models" % (version, opset)
        sys.exit(wrong + ": pip install 'onnxruntime>=%d.%d'" % tuple(needed))
    files = [Path("/proc/device-tree/model"), Path("/proc/cpuinfo")]
    tree, info = [p.read_text(errors="replace") if p.exists() else "" for p in files]
    found = re.search(r"^model name\s*:\s*(.+)$", info, re.M)
    name = tree.strip("\0\n ") or (found and found.group(1)) or platform.processor()
    everywhere, threads = list(range(os.cpu_count() or 1)), plan["wanted"]["threads"]
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everywhere
    if threads > len(cpus):
        sys.exit("run.py: the plan wants %d threads, there are %d CPUs" % (threads, len(cpus)))
    kept = platform.libc_ver()[0] == "glibc"
    allocator = plan["allocator"]["name"] if kept else platform.system() + " default"
    return {"device": "cpu", "system": platform.platform(), "backend": "onnxruntime",
            "device_name": "%s (%s, %s CPUs)" % (name, platform.machine(), os.cpu_count()),
            "backend_version": version, "provider": PROVIDER, "threads": threads,
            "allocator": allocator, "affinity": None if cpus == everywhere else cpus}  # fmt: skip


def load_results(plan, path):
    """Return the results so far, new ones where there are none."""
    here, now = runtime(plan), time.strftime(NOW, time.gmtime())
    if not path.exists():
        return {"schema_version": 1, "unit": "ms", "plan": plan, "runtime": here, "ended": None,
                "started": now, "reference": [], "readings": {}, "failed": {}}  # fmt: skip
    try:
        found = json.loads(path.read_text())
        if found["plan"]["digest"] == plan["digest"] and found["runtime"] == here:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    sys.exit("run.py: results.json is damaged, or of another plan, device or software: move it")


def add(results, files):
    """Measure a few models in a new process, and add what it read to the results."""
    command = [sys.executable, str(HERE / "run.py"), *files]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit("run.py: measuring %s ended with code %d" % (files, done.returncode))
    found = json.loads(done.stdout.decode())
    for file, pairs in found["readings"].items():
        results["readings"].setdefault(file, []).append(pairs)
    results["failed"].update(found["failed"])
    results["reference"] += found["reference"]


def main(files):
    """Measure all that is left of the plan, or ``files`` of it in this process."""
    try:
        plan = json.loads((HERE / "plan.json").read_text())
        plan = plan if plan["schema_version"] == 1 else None
    except (OSError, ValueError, KeyError, TypeError):
        plan = None
    if not plan:
        sys.exit("run.py: no plan of dcsnas profile --plan in %s: copy the whole folder" % HERE)
    kept = plan["allocator"]["environment"]
    if platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in kept):
        command = [sys.executable, str(HERE / "run.py"), *files]
        os.execve(sys.executable, command, dict(os.environ, **kept))  # glibc reads them at start
    if files:
        return measure(plan, files)
    for model in plan["models"]:
        path = HERE / model["file"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != model["sha256"]:
            sys.exit("run.py: %s is missing or damaged: copy the folder again" % model["file"])
    path, started = HERE / "results.json", time.monotonic()
    results = load_results(plan, path)
    left = groups_left(plan, results)
    for count, group in enumerate(left, start=1):
        add(results, group)
        results["ended"] = time.strftime(NOW, time.gmtime()) if count == len(left) else None
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(results))
        os.replace(str(partial), str(path))
        minutes = (time.monotonic() - started) / count * (len(left) - count) / 60
        print("%d processes, %d min left" % (len(left) - count, minutes), file=sys.stderr)
    print("finished: copy %s back, dcsnas profile SPACE --read FILE" % path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nrun.py: stopped; run it again to go on")
