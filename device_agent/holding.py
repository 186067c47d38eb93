"""The calls about who holds a board and whether it may be held; part of the servicer."""

from __future__ import annotations

import logging
from typing import Any

from device_agent.access import Revoked
from device_agent.edge import lease_reply, unary
from device_agent.errors import Quarantined, Unsupported
from device_agent.leases import Lease, Leases
from device_agent.measure import Machine
from device_agent.quarantine import Quarantine as Reason
from protos import board_pb2 as pb

_LOG = logging.getLogger(__name__)


class Holding:
    """Mixed into the servicer, which has the machine, its leases, its quarantine, and its list.

    That list is of whom to refuse; in plain text there is none.
    """

    _machine: Machine
    _leases: Leases
    _quarantine: Reason
    _revoked: Revoked | None

    @unary
    def Acquire(self, request: Any, context: Any) -> Any:
        if reason := self._quarantined():
            raise Quarantined(f"{self._machine.identity.name} is quarantined: {reason}")
        before = self._leases.current()
        lease = self._leases.acquire(
            request.holder, request.ttl_s, request.nonce, wait=request.wait
        )
        if before is None:
            self._end_run()  # whatever still runs belongs to a lease that expired
        return lease_reply(lease.fence, lease.secret, lease.ttl_s)

    @unary
    def Renew(self, request: Any, context: Any) -> Any:
        lease = self._leases.renew(request.token.fence, request.token.secret)
        return lease_reply(lease.fence, lease.secret, lease.ttl_s)

    @unary
    def Release(self, request: Any, context: Any) -> Any:
        self._check(request.token)
        self._end_run()
        self._leases.release(request.token.fence, request.token.secret)
        return pb.ReleaseReply()

    @unary
    def Quarantine(self, request: Any, context: Any) -> Any:
        self._check(request.token)
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

    @unary
    def PutRevoked(self, request: Any, context: Any) -> Any:
        if self._revoked is None:
            raise Unsupported("this agent serves plain text: there are no certificates to refuse")
        refused = self._revoked.add(request.fingerprints)
        _LOG.warning("%s sent a list: %d certificates are refused", context.peer(), refused)
        return pb.PutRevokedReply(refused=refused)

    def _end_run(self) -> None:
        """Cancel what runs and wait until it is gone."""
        raise NotImplementedError

    def _check(self, token: Any) -> Lease:
        """Return the live lease of a token, or raise NotYourLease."""
        return self._leases.check(token.fence, token.secret)

    def _quarantined(self) -> str:
        return self._quarantine.reason(self._machine.probes.read())
