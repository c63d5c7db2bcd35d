"""Times the models of this folder on this device: ``python3 run.py``. It needs onnxruntime alone.

Operators are sampled in shuffled rounds, whole networks in processes of their own, and a reference
before and after each sample. After every round ``results.json`` is whole: stop this at any time,
and run it again to go on.
"""

import datetime
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

HERE = Path(__file__).resolve().parent
PROVIDER = "CPUExecutionProvider"


class Workload:
    """A model on random input, warmed up, and how often a sample repeats it."""

    def __init__(self, plan, model):
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = plan["wanted"]["threads"], 1
        options.log_severity_level = 3  # errors
        # the threads of one session must not spin while another is timed
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = str(HERE / model["file"])
        self.session = ort.InferenceSession(path, options, providers=[PROVIDER])
        self.binding = self.session.io_binding()
        images = np.random.default_rng(0).standard_normal(model["input"], dtype=np.float32)
        given, output = self.session.get_inputs()[0].name, self.session.get_outputs()[0]
        features = ort.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32)
        self.binding.bind_ortvalue_input(given, ort.OrtValue.ortvalue_from_numpy(images))
        self.binding.bind_ortvalue_output(output.name, features)
        # a single thread's own time does not run while others have the processor
        self.clock = time.thread_time if plan["wanted"]["threads"] == 1 else time.perf_counter
        self.repeats = 1
        for _ in range(plan["settings"]["warmup_runs"]):
            self.run()
        took = [self.sample() for _ in range(4)]
        while len(took) < 100 and min(took[-3:]) < 0.95 * min(took[:-3]):  # it still gets faster
            took.append(self.sample())
        wanted_ms = plan["settings"]["min_sample_ms"]
        self.repeats = min(10000, max(1, math.ceil(wanted_ms / max(min(took), 1e-6))))

    def run(self):
        """Run the model once."""
        self.session.run_with_iobinding(self.binding)

    def sample(self):
        """Return the milliseconds of one run; a run before, not timed, fills the caches."""
        self.run()
        start = self.clock()
        for _ in range(self.repeats):
            self.run()
        return (self.clock() - start) * 1000 / self.repeats


def sample_rounds(plan, workloads, reference, readings, rounds):
    """Append [ms, reference ms] to the ``readings`` of each workload; yield the round's reference.

    Times go on where they were: each workload gets as many as it lacks of ``rounds``.
    """
    while True:
        waiting = [file for file in workloads if len(readings[file]) < rounds]
        if not waiting:
            return
        done = min(len(readings[file]) for file in waiting)
        random.Random("%d %d" % (plan["settings"]["seed"], done)).shuffle(waiting)
        beside = [reference.sample()]
        for file in waiting:
            ms = workloads[file].sample()
            beside.append(reference.sample())
            readings[file].append([ms, (beside[-2] + beside[-1]) / 2])
        yield statistics.median(beside)


def measure_operators(plan, results):
    """Sample the operators, in blocks that fit into memory; save and yield after every round."""
    readings, failed, rounds = results["readings"], results["failed"], plan["settings"]["rounds"]
    while True:
        left = [m for m in models(plan, "operator") if m["file"] not in failed]
        left = [m for m in left if len(readings.get(m["file"], [[]])[0]) < rounds]
        if not left:
            return
        reference, block, num_bytes = Workload(plan, models(plan, "reference")[0]), {}, 0
        for model in left:
            try:
                block[model["file"]] = Workload(plan, model)
            except Exception as error:  # onnxruntime's errors have no class in common
                failed[model["file"]] = str(error).strip().partition("\n")[0] or repr(error)
                continue
            num_bytes += 2 * os.path.getsize(str(HERE / model["file"])) + 2**20
            if num_bytes > plan["settings"]["block_mib"] * 2**20:
                break
        open_readings = {file: readings.setdefault(file, [[]])[0] for file in block}
        for beside in sample_rounds(plan, block, reference, open_readings, rounds):
            results["reference"].append(beside)
            yield


def measure_networks(plan, results):
    """Sample whole networks, a few in each new process; yield after every process."""
    readings, networks = results["readings"], models(plan, "network")
    for number in range(plan["passes"]):
        order = [model["file"] for model in networks]
        random.Random("%d pass %d" % (plan["settings"]["seed"], number)).shuffle(order)
        for start in range(0, len(order), plan["together"]):
            group = order[start : start + plan["together"]]
            if all(len(readings.get(file, [])) > number for file in group):
                continue
            command = [sys.executable, str(HERE / "run.py"), "--together", *group]
            done = subprocess.run(command, stdout=subprocess.PIPE)
            if done.returncode:
                sys.exit("run.py: measuring %s ended with code %d" % (group, done.returncode))
            for file, pairs in json.loads(done.stdout.decode()).items():
                readings.setdefault(file, []).append(pairs)
            yield


def measure_together(plan, files):
    """Print the readings of a few networks that take turns in this process, as JSON."""
    chosen = {model["file"]: model for model in models(plan, "network") if model["file"] in files}
    reference = Workload(plan, models(plan, "reference")[0])
    workloads = {file: Workload(plan, model) for file, model in chosen.items()}
    readings = {file: [] for file in chosen}
    rounds = math.ceil(plan["network_rounds"] / plan["passes"])
    for _ in sample_rounds(plan, workloads, reference, readings, rounds):
        pass
    print(json.dumps(readings))


def models(plan, role):
    """Return the models of the plan in one role: reference, operator or network."""
    return [model for model in plan["models"] if model["role"] == role]


def runtime(plan):
    """Return what the times depend on: the device, its software, threads and memory."""
    import onnxruntime

    needed = plan["onnxruntime"]
    if [int(n) for n in re.findall(r"\d+", onnxruntime.__version__)[:2]] < needed:
        sys.exit(
            "run.py: onnxruntime %s does not read opset %d of these models: pip install "
            "'onnxruntime>=%d.%d'" % (onnxruntime.__version__, plan["opset"], *needed)
        )
    names = [Path("/proc/device-tree/model"), Path("/proc/cpuinfo")]
    tree, info = [p.read_text(errors="replace") if p.exists() else "" for p in names]
    found = re.search(r"^model name\s*:\s*(.+)$", info, re.M)
    name = tree.strip("\0\n ") or (found and found.group(1)) or platform.processor()
    everywhere = list(range(os.cpu_count() or 1))
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everywhere
    threads = plan["wanted"]["threads"]
    if threads > len(cpus):
        sys.exit("run.py: the plan wants %d threads, there are %d CPUs" % (threads, len(cpus)))
    kept = platform.libc_ver()[0] == "glibc"
    return {
        "device": "cpu",
        "device_name": "%s (%s, %s CPUs)" % (name, platform.machine(), os.cpu_count()),
        "system": platform.platform(),
        "backend": "onnxruntime",
        "backend_version": onnxruntime.__version__,
        "provider": PROVIDER,
        "threads": threads,
        "allocator": plan["allocator"]["name"] if kept else platform.system() + " default",
        "affinity": None if cpus == everywhere else cpus,
    }


def load_plan():
    """Return the plan of this folder."""
    try:
        plan = json.loads((HERE / "plan.json").read_text())
        if plan["schema_version"] == 1:
            return plan
    except (OSError, ValueError, KeyError, TypeError):
        pass
    sys.exit("run.py: no plan of dcsnas profile --plan in %s: copy the whole folder" % HERE)


def check_models(plan):
    """End where a model did not come over whole."""
    for model in plan["models"]:
        path = HERE / model["file"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != model["sha256"]:
            sys.exit("run.py: %s is missing or damaged: copy the folder again" % model["file"])


def load_results(plan):
    """Return the results so far, new ones where there are none."""
    here, path = runtime(plan), HERE / "results.json"
    if not path.exists():
        made = {"schema_version": 1, "unit": "ms", "plan": plan, "runtime": here}
        made.update(started=now(), ended=None, reference=[], readings={}, failed={})
        return made
    try:
        found = json.loads(path.read_text())
        if found["plan"]["digest"] == plan["digest"] and found["runtime"] == here:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    sys.exit("run.py: results.json is damaged, or of another plan, device or software: move it")


def save(results):
    """Write the results beside their place and put them there at once."""
    partial = HERE / "results.json.partial"
    partial.write_text(json.dumps(results))
    os.replace(str(partial), str(HERE / "results.json"))


def now():
    """Return the date and time, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def show(results, started, before):
    """Show on the terminal, or in a log, how far it is."""
    plan, lists = results["plan"], results["readings"].values()
    per_network = math.ceil(plan["network_rounds"] / plan["passes"]) * plan["passes"]
    operators = len(models(plan, "operator")) * plan["settings"]["rounds"]
    done, total = count(lists), operators + len(models(plan, "network")) * per_network
    left_s = (time.monotonic() - started) / max(1, done - before) * (total - done)
    end = "\r" if sys.stderr.isatty() else "\n"
    print("%d of %d samples, %d min left " % (done, total, left_s / 60), end=end, file=sys.stderr)


def count(lists):
    """Return how many samples there are in lists by process."""
    return sum(len(pairs) for parts in lists for pairs in parts)


def main(arguments):
    """Measure all that is left of the plan."""
    plan = load_plan()
    kept = plan["allocator"]["environment"]
    if platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in kept):
        command = [sys.executable, str(HERE / "run.py"), *arguments]
        os.execve(sys.executable, command, dict(os.environ, **kept))  # glibc reads them at start
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        sys.exit("run.py: onnxruntime is missing: pip install onnxruntime")
    if arguments:
        return measure_together(plan, arguments[1:])
    check_models(plan)
    results = load_results(plan)
    started, before = time.monotonic(), count(results["readings"].values())
    for measure in (measure_operators, measure_networks):
        for _ in measure(plan, results):
            save(results)
            show(results, started, before)
    results["ended"] = results["ended"] or now()
    save(results)
    print("\nfinished: copy %s back, dcsnas profile SPACE --read FILE" % (HERE / "results.json"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nrun.py: stopped; run it again to go on")
