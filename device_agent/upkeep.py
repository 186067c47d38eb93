"""Calls that keep a board in order: quarantine, reset, the end of a lease; of the servicer."""

from __future__ import annotations

import logging
from typing import Any

from device_agent.edge import unary
from device_agent.leases import Leases
from device_agent.measure import Machine
from device_agent.quarantine import Quarantine as Reason
from protos import board_pb2 as pb

_LOG = logging.getLogger(__name__)


class Upkeep:
    """Mixed into the servicer, which has the machine, its leases and its quarantine."""

    _machine: Machine
    _leases: Leases
    _quarantine: Reason

    @unary
    def Quarantine(self, request: Any, context: Any) -> Any:
        self._leases.check(request.token.fence, request.token.secret)
        self._quarantine.put(request.reason)
        _LOG.warning("quarantined: %s", request.reason)
        return pb.QuarantineReply()

    @unary
    def Reset(self, request: Any, context: Any) -> Any:
        return pb.ResetReply(was=self._quarantine.clear(self._machine.probes.read()))

    @unary
    def EndLease(self, request: Any, context: Any) -> Any:
        held_s, lease = self._leases.held_s(), self._leases.end()
        if lease is None:
            return pb.EndLeaseReply()
        self._end_run()
        _LOG.warning("%s ended the lease of %s", context.peer(), lease.holder)
        return pb.EndLeaseReply(holder=lease.holder, held_s=held_s)

    def _end_run(self) -> None:
        """Cancel what runs and wait until it is gone."""
        raise NotImplementedError
