"""This machine as a board: the process runner, Linux probes, the first power meter; no server."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from device_agent.measure import Machine
from device_agent.power import SampledMeter, ina2xx
from device_agent.probes import LinuxProbes, local_identity
from device_agent.supervise import ProcessRunner
from device_agent.tuning import tuned


def local_machine(
    name: str, kind: str = "local", root: Path = Path("/"), *, require_sandbox: bool = False
) -> Machine:
    """Describe this machine and what is attached to it."""
    folder = ina2xx.find(root)
    meter = SampledMeter("ina2xx", partial(ina2xx.read_w, folder)) if folder else None
    identity = local_identity(name, kind, root)
    if meter:
        identity = replace(identity, capabilities=(*identity.capabilities, "energy"))
    return Machine(
        identity=identity,
        runner=ProcessRunner(require_sandbox=require_sandbox),
        probes=LinuxProbes(root),
        meter=meter,
        tuned=partial(tuned, root),
    )
