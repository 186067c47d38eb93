"""This machine as a board: the process runner, Linux probes, the first power meter; no server."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from device_agent.counters import effective_mhz
from device_agent.measure import Machine
from device_agent.power.meters import meter
from device_agent.probes import LinuxProbes, local_identity, nominal_mhz
from device_agent.supervise import ProcessRunner
from device_agent.tuning import tuned


def local_machine(
    name: str,
    kind: str = "local",
    root: Path = Path("/"),
    *,
    meter_name: str = "",
    require_sandbox: bool = False,
) -> Machine:
    """Describe this machine and what is attached to it; raises Unsupported for a missing meter."""
    attached = meter(meter_name, root)
    identity = local_identity(name, kind, root)
    if attached:
        identity = replace(identity, capabilities=(*identity.capabilities, "energy"))
    return Machine(
        identity=identity,
        runner=ProcessRunner(require_sandbox=require_sandbox),
        probes=LinuxProbes(root),
        meter=attached,
        tuned=partial(tuned, root),
        nominal_mhz=nominal_mhz(kind, root),
        effective_mhz=effective_mhz,
    )
