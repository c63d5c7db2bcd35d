"""What the machine gives: processors, memory, allocator, disk, loaders' locks, ports."""

import multiprocessing
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

from dcsnas.config.environment import allowed_cpus
from dcsnas.doctor.findings import STAGES, Finding
from dcsnas.doctor.limits import cpu_limit, memory_limit

GIB = 1 << 30
LEAST_DISK = GIB // 2
"""Free bytes below which a run may not find room: a demo writes 54 MB, larger networks more."""
LEAST_MEMORY = GIB
"""Available bytes below which even small trainings may not fit: a search of tiny takes 0.8 GiB."""
INSTRUCTIONS = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "AVX-512 VNNI": "avx512_vnni",
    "AVX-512 BF16": "avx512_bf16",
    "AMX": "amx_tile",
    "AMX BF16": "amx_bf16",
    "NEON": "asimd",
    "SVE": "sve",
}
"""Names of instruction sets, by what /proc/cpuinfo calls them."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def check_machine() -> Iterator[Finding]:
    """Yield what there is of everything but software."""
    yield check_processors(cpu_limit())
    yield check_memory(memory_limit())
    yield check_allocator(platform.libc_ver(), _read(HUGE_PAGES))
    yield check_disk("disk (here)", Path.cwd())
    yield check_disk("disk (temporary)", Path(gettempdir()))
    yield check_shared_memory()


def instruction_sets(cpuinfo: str) -> list[str]:
    """Return the instruction sets in the text of /proc/cpuinfo that matter here."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.M)
    flags = set(found[1].split()) if found else set()
    return [name for name, flag in INSTRUCTIONS.items() if flag in flags]


def check_processors(limit: float | None) -> Finding:
    """Return how many CPUs there are, how many are ours, and whether others use them.

    ``limit`` is how many CPUs' time the control group gives, None without one.
    """
    ours, all_of_them = allowed_cpus(), os.cpu_count() or 1
    load = os.getloadavg()[0]
    sets = instruction_sets(_read(Path("/proc/cpuinfo")))
    limited = "" if limit is None else f", limited to the time of {limit:g}"
    facts = {"cpus": ours, "cpus_of_machine": all_of_them, "cgroup_cpus": limit,
             "load": round(load, 2), "instruction_sets": sets}  # fmt: skip
    text = f"{ours} of {all_of_them} CPUs{limited}; {', '.join(sets) or 'no vector instructions'}"
    if limit is not None and limit < ours:
        count = max(1, int(limit))
        return Finding(
            "processors", "note", f"{text}; more threads than that wait for each other",
            f"export OMP_NUM_THREADS={count}, or set run.threads to {count} in configurations",
            facts=facts,
        )  # fmt: skip
    if load > ours:
        return Finding(
            "processors", "note", f"{text}; load {load:.1f}: other work is running",
            "measure latencies when less runs; their verdict tells whether they hold",
            facts=facts,
        )  # fmt: skip
    return Finding("processors", "ok", text, facts=facts)


def check_memory(limit: int | None, meminfo: str | None = None) -> Finding:
    """Return how much memory there is and is available, within the control group's ``limit``."""
    lines = _read(Path("/proc/meminfo")) if meminfo is None else meminfo
    found = {name: 1024 * int(kib) for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", lines, re.M)}
    total, available = found.get("MemTotal"), found.get("MemAvailable")
    facts = {"total": total, "available": available, "cgroup_limit": limit}
    if total is None or available is None:
        return Finding("memory", "ok", "the system does not say how much", facts=facts)
    usable = min(available, limit) if limit else available
    limited = "" if limit is None or limit >= total else f", limited to {_gib(limit)}"
    text = f"{_gib(available)} available of {_gib(total)}{limited}"
    if usable < LEAST_MEMORY:
        return Finding(
            "memory", "note", text,
            "end other programs, or lower batch sizes and data.workers", facts=facts,
        )  # fmt: skip
    return Finding("memory", "ok", text, facts=facts)


def check_allocator(libc: tuple[str, str], huge_pages: str) -> Finding:
    """Return what holds the memory of the stages that measure or train, which set it themselves.

    ``libc`` is its name and version, ``huge_pages`` the kernel's setting.
    """
    from dcsnas.latency.allocator import GLIBC_DEFAULT, allocator_environment, current_allocator
    from dcsnas.latency.allocator import describe_glibc as described

    now = current_allocator()
    used = described(allocator_environment()) if now == GLIBC_DEFAULT else now
    chosen = re.search(r"\[(\w+)\]", huge_pages)
    pages = chosen[1] if chosen else "unknown"
    facts = {"allocator": used, "libc": " ".join(libc).strip(), "huge_pages": pages}
    text = f"{used}; huge pages: {pages}"
    name, version = libc
    if name == "glibc" and _numbers(version) < (2, 35):
        return Finding(
            "allocator", "note", f"{text}; glibc {version} gives none",
            "latencies scatter more; take glibc 2.35 or newer, or jemalloc", facts=facts,
        )  # fmt: skip
    if pages == "never":
        return Finding(
            "allocator", "note", f"{text}: latencies of one network differ more between processes",
            f"as root: echo madvise > {HUGE_PAGES}", facts=facts,
        )  # fmt: skip
    return Finding("allocator", "ok", text, facts=facts)


def check_disk(name: str, folder: Path) -> Finding:
    """Return how much is free where ``folder`` is; it must be a place that can be written to."""
    free = shutil.disk_usage(folder).free
    facts = {"folder": str(folder), "free": free}
    writable = os.access(folder, os.W_OK | os.X_OK)
    text = f"{_gib(free)} free in {folder}"
    if not writable or free < LEAST_DISK:
        text = text if writable else f"{folder} cannot be written to"
        return Finding(
            name, "problem", text,
            "change to a folder with room that you may write to" if "here" in name
            else "set TMPDIR to a folder with room that you may write to",
            stops=STAGES, facts=facts,
        )  # fmt: skip
    return Finding(name, "ok", text, facts=facts)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Return whether loading processes can have their locks, which lie in ``folder``."""
    facts = {"free": shutil.disk_usage(folder).free if folder.is_dir() else None}
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        return Finding(
            "shared memory", "note", f"{folder}: no room for locks ({error})",
            "images are loaded by the training process alone; mount a /dev/shm, in a container "
            "with --shm-size", facts=facts,
        )  # fmt: skip
    room = "" if facts["free"] is None else f", {_gib(facts['free'])} free in {folder}"
    return Finding("shared memory", "ok", f"loading processes get their locks{room}", facts=facts)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
