"""All that is looked at, put together."""

from dcsnas.doctor.findings import Diagnosis
from dcsnas.doctor.machine import check_machine
from dcsnas.doctor.software import check_software


def diagnose() -> Diagnosis:
    """Look at this machine and return what was found; nothing is left behind."""
    findings = [*check_software(), *check_machine()]
    torch = next(finding for finding in findings if finding.name == "torch")
    devices = torch.facts.get("devices", [])
    where = f"CUDA ({devices[0]})" if devices else "the CPU"
    return Diagnosis(findings, where if torch.state != "problem" else "")
