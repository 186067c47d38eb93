"""This machine as a board: the process runner, Linux probes, the first power meter; no server."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from device_agent import unrandomised
from device_agent.counters import effective_mhz
from device_agent.measure import Machine
from device_agent.power.meters import meter
from device_agent.preparation import Preparation
from device_agent.probes import LinuxProbes, local_identity, nominal_mhz
from device_agent.supervise import WORKER, ProcessRunner
from device_agent.tuning import tuned


def local_machine(
    name: str,
    kind: str = "local",
    root: Path = Path("/"),
    *,
    meter_name: str = "",
    meter_line: str = "",
    require_sandbox: bool = False,
    preparation: Preparation | None = None,
) -> Machine:
    """Describe this machine and what is attached to it.

    Raises Unsupported for a meter that is missing, for a line to it that cannot be driven, and for
    addresses that cannot be fixed.
    """
    prepared = preparation or Preparation()
    if not prepared.aslr:
        unrandomised.check()
    attached = meter(meter_name, root, meter_line)
    identity = local_identity(name, kind, root)
    fingerprint = {**identity.fingerprint, **prepared.fingerprint(root)}
    identity = replace(identity, fingerprint=fingerprint)
    if attached:
        identity = replace(identity, capabilities=(*identity.capabilities, "energy"))
    return Machine(
        identity=identity,
        runner=ProcessRunner(
            WORKER if prepared.aslr else unrandomised.COMMAND,
            require_sandbox=require_sandbox,
            cores=prepared.cores,
        ),
        probes=LinuxProbes(root),
        meter=attached,
        tuned=partial(tuned, root),
        nominal_mhz=nominal_mhz(kind, root),
        effective_mhz=effective_mhz,
    )
