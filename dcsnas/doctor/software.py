"""What is installed: Python, packages, torch and what it can compute on, NNI, browsers.

Nothing here is imported before it is looked at, since it may be what is broken.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from importlib.util import find_spec
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.doctor.findings import NETWORKS, STAGES, TRAINING, Finding

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
AGAIN = "pip install -c constraints.txt -e . (CONTRIBUTING.md, Dependencies)"
BROWSERS = ("chromium", "google-chrome")
EXPORT = ("onnx", "onnxruntime", "onnxscript")


def check_software() -> Iterator[Finding]:
    """Yield what is installed and works."""
    yield check_python(sys.version_info[:3])
    yield check_packages(_requirements())
    torch = _guarded("torch", check_torch, NETWORKS)
    yield torch
    if torch.state != "problem":
        yield _guarded("torchvision", check_torchvision, TRAINING)
        yield _guarded("timm", check_timm, ())
        yield _guarded("latency backends", check_backends, ("profile",))
        yield _guarded("NNI", check_nni, ("experiment",))
    yield check_export(find_spec)
    yield check_browser(shutil.which, find_spec)


def check_python(found: tuple[int, ...]) -> Finding:
    """Return whether this is a Python that dcsnas is made for."""
    text, facts = ".".join(map(str, found)), {"version": ".".join(map(str, found))}
    if OLDEST_PYTHON <= tuple(found[:2]) <= NEWEST_PYTHON:
        return Finding("Python", "ok", f"{text} in {sys.prefix}", facts=facts)
    return Finding(
        "Python", "problem", text, "make the environment with Python 3.11, 3.12 or 3.13",
        stops=STAGES, facts=facts,
    )  # fmt: skip


def check_packages(wanted: list[str]) -> Finding:
    """Return whether what dcsnas asks for is there; ``wanted`` are requirements as in its metadata.

    Names alone are looked at where ``packaging`` is not installed.
    """
    missing, other = [], []
    for line in wanted:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            found = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        if not _fits(line, found):
            other.append(f"{name} {found} (wanted: {line})")
    facts = {"missing": missing, "other_versions": other}
    if missing:
        text = f"not installed: {', '.join(missing)}"
        return Finding("packages", "problem", text, AGAIN, stops=STAGES, facts=facts)
    if other:
        text = f"not the versions that are tested: {', '.join(other)}"
        return Finding("packages", "note", text, AGAIN, facts=facts)
    return Finding("packages", "ok", f"all {len(wanted)} that are asked for", facts=facts)


def check_torch() -> Finding:
    """Return torch's version and what it can compute on."""
    import torch

    cuda = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    facts = {
        "version": torch.__version__, "cpu_capability": capability, "threads": threads,
        "cuda": torch.version.cuda, "devices": names if cuda else [],
        "bfloat16_on_cuda": cuda and torch.cuda.is_bf16_supported(),
    }  # fmt: skip
    text = f"{torch.__version__}; CPU kernels: {capability}, {threads} threads"
    if cuda:
        return Finding("torch", "ok", f"{text}; CUDA: {', '.join(names)}", facts=facts)
    if Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists():
        why = "is a CPU build" if torch.version.cuda is None else "sees no CUDA device"
        return Finding(
            "torch", "note", f"{text}; a GPU is here, but this torch {why}",
            "install the CUDA build of the same torch, as pytorch.org says, and check nvidia-smi",
            facts=facts,
        )  # fmt: skip
    return Finding("torch", "ok", f"{text}; no CUDA", facts=facts)


def check_torchvision() -> Finding:
    """Return whether a torchvision beside this torch is in the way."""
    from dcsnas.torchvision_compat import operators_were_declared
    from dcsnas.zoo.torchvision_shim import torchvision_imports

    found = _version("torchvision")
    if find_spec("torchvision") is None:
        return Finding(
            "torchvision", "ok", "not installed, and not needed", facts={"version": None}
        )
    facts = {"version": found, "imports": torchvision_imports(),
             "declared": operators_were_declared()}  # fmt: skip
    if not facts["imports"]:
        return Finding(
            "torchvision", "problem", f"{found} does not import, and Lightning imports it",
            "pip uninstall torchvision (nothing here needs it)", stops=TRAINING, facts=facts,
        )  # fmt: skip
    mended = "; built for another torch: its operators are declared, which is enough here"
    return Finding("torchvision", "ok", f"{found}{mended * facts['declared']}", facts=facts)


def check_timm() -> Finding:
    """Return whether backbones of timm can be used, which are optional."""
    from dcsnas.zoo.torchvision_shim import INSTALL, import_timm

    try:
        import_timm()
    except UserError as error:
        text = str(error).partition(";")[0].partition(", which")[0]
        return Finding("timm", "note", f"{text}: no backbones of timm, such as resnet50", INSTALL)
    found = _version("timm")
    return Finding("timm", "ok", f"{found}", facts={"version": found})


def check_backends() -> Finding:
    """Return in what ways networks can be timed here."""
    from dcsnas.latency.backends import BACKENDS

    types = {}
    for name, backend in BACKENDS.items():
        try:
            backend.refuse_unsupported("float32")
        except UserError:
            continue
        types[name] = list(backend.dtypes())
    listed = "; ".join(f"{name} ({', '.join(dtypes)})" for name, dtypes in types.items())
    return Finding("latency backends", "ok", listed, facts={"dtypes": types})


def check_nni() -> Finding:
    """Return whether NNI's manager, patched, could show an experiment here."""
    from dcsnas.experiments.readiness import check_manager

    try:
        ready = check_manager()
    except UserError as error:
        found = _version("nni")
        return Finding(
            "NNI", "problem", f"{found}: {error}", "correct that, then experiments can run",
            stops=("experiment",), facts={"version": found},
        )  # fmt: skip
    text = f"{_version('nni')}, patched, Node {ready.node}; next web page on port {ready.port}"
    facts = {"version": _version("nni"), "node": ready.node, "port": ready.port}
    return Finding("NNI", "ok", text, facts=facts)


def check_export(find: Callable[[str], object]) -> Finding:
    """Return whether networks can be exported; ``find`` says whether there is a module."""
    missing = [name for name in EXPORT if find(name) is None]
    facts = {name: _version(name) for name in EXPORT}
    if missing:
        return Finding(
            "ONNX", "problem", f"not installed: {', '.join(missing)}",
            f"pip install -c constraints.txt {' '.join(missing)}", stops=("export",), facts=facts,
        )  # fmt: skip
    facts["executorch"] = _version("executorch") if find("executorch") else None
    text = ", ".join(f"{name} {found}" for name, found in facts.items() if found)
    return Finding("ONNX", "ok", text, facts=facts)


def check_browser(which: Callable[[str], str | None], find: Callable[[str], object]) -> Finding:
    """Return whether the tests of web pages can run, which need Chromium and playwright."""
    browser = next((path for name in BROWSERS if (path := which(name))), None)
    driver = _version("playwright") if find("playwright") else None
    facts = {"browser": browser, "playwright": driver}
    if browser and driver:
        return Finding("Chromium", "ok", f"{browser}, playwright {driver}", facts=facts)
    missing = [] if browser else ["Chromium (apt-get install chromium)"]
    missing += [] if driver else ["playwright (pip install -c constraints.txt playwright)"]
    return Finding(
        "Chromium", "note", "the tests of web pages skip themselves; no command needs it",
        f"to run them install {' and '.join(missing)}", facts=facts,
    )  # fmt: skip


def _guarded(name: str, check: Callable[[], Finding], stops: tuple[str, ...]) -> Finding:
    """Return what ``check`` finds; whatever is raised by a broken package is a finding too."""
    try:
        return check()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        text = f"fails: {type(error).__name__}: {lines[0]}"
        return Finding(name, "problem" if stops else "note", text, AGAIN, stops=stops)


def _requirements() -> list[str]:
    """Return what dcsnas asks for, without extras; nothing where it is not installed as a package.

    A checkout that is run by PYTHONPATH has no metadata.
    """
    try:
        distribution("dcsnas")
    except PackageNotFoundError:
        return []
    return [line for line in requires("dcsnas") or [] if "extra ==" not in line]


def _fits(requirement: str, found: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return Requirement(requirement).specifier.contains(found, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
