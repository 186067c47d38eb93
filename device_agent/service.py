"""The gRPC servicer: check, call, convert; domain errors become status codes. Decides nothing."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from device_agent.access import Revoked
from device_agent.announced import Announced
from device_agent.artifacts import ArtifactStore, check_digest
from device_agent.edge import (
    array,
    events,
    limits,
    plan_of,
    streaming,
    tensor,
    unary,
    until_broken,
)
from device_agent.errors import Busy, NotYourLease, Rejected
from device_agent.holding import Holding
from device_agent.leases import Leases
from device_agent.measure import Machine, Task, measure
from device_agent.quarantine import Quarantine
from device_agent.receipts import Signer
from device_agent.runner import RUNTIME_ABI, check_manifest
from device_agent.teller import Teller
from device_agent.values import Job
from protos import board_pb2 as pb
from protos import board_pb2_grpc
from protos.convert import to_message
from protos.version import SERVICE_VERSION

AGENT_VERSION = importlib.metadata.version("hil-lab")
CANCEL_WAIT_S = 5.0


class BoardService(Holding, board_pb2_grpc.BoardServicer):  # type: ignore[misc]
    """The board service over one machine."""

    def __init__(
        self,
        machine: Machine,
        leases: Leases,
        artifacts: ArtifactStore,
        signer: Signer,
        quarantine: Quarantine,
        revoked: Revoked | None = None,
    ) -> None:
        self._machine = machine
        self._signer = signer
        self._quarantine = quarantine
        self._revoked = revoked
        self._leases = leases
        self._artifacts = artifacts
        self._announced = Announced()
        self._running = threading.Lock()
        self._current: object | None = None

    @unary
    def Describe(self, request: Any, context: Any) -> Any:
        identity, lease = self._machine.identity, self._leases.current()
        reason = self._quarantined()
        return pb.DescribeReply(
            agent_version=AGENT_VERSION,
            service_version=SERVICE_VERSION,
            runtime_abi=RUNTIME_ABI,
            arch=identity.arch,
            kind=identity.kind,
            name=identity.name,
            fingerprint=dict(identity.fingerprint),
            capabilities=identity.capabilities,
            state=self._state(reason),
            holder=lease.holder if lease else "",
            lease_remaining_s=self._leases.remaining_s(),
            reason=reason,
            queue_length=self._leases.waiting(),
            held_s=self._leases.held_s(),
            wait_s=self._leases.wait_s(),
        )

    @unary
    def MissingBlobs(self, request: Any, context: Any) -> Any:
        lease = self._check(request.token)
        digests = [blob.digest for blob in request.blobs]
        missing = self._artifacts.blobs.missing(digests)
        self._announced.add(lease.fence, digests)
        self._artifacts.blobs.pin(digests)
        return pb.MissingBlobsReply(
            missing=[pb.MissingBlob(digest=d, have_bytes=n) for d, n in missing.items()]
        )

    @unary
    def PutBlob(self, request: Iterator[Any], context: Any) -> Any:
        first = next(request, None)
        if first is None:
            raise Rejected("an upload without a chunk")
        lease = self._check(first.token)

        def chunks() -> Iterator[bytes]:
            yield first.data
            for chunk in until_broken(request):
                self._check(first.token)  # it may have expired meanwhile
                yield chunk.data

        blob = first.blob
        have = self._artifacts.blobs.put(blob.digest, blob.size_bytes, first.offset_bytes, chunks())
        self._announced.add(lease.fence, [blob.digest])
        return pb.PutBlobReply(have_bytes=have)

    @unary
    def PutArtifact(self, request: Any, context: Any) -> Any:
        lease = self._check(request.token)
        machines = (self._machine.identity.arch, *self._machine.also_runs)

        def check(manifest: Mapping[str, Any]) -> None:
            check_manifest(manifest, machines)
            self._announced.check(lease.fence, [manifest["library"]["digest"]])

        digest = self._artifacts.put(request.manifest_json, check)
        self._announced.add(lease.fence, [digest])
        return pb.PutArtifactReply(digest=digest)

    @unary
    def Verify(self, request: Any, context: Any) -> Any:
        with self._run(request, context) as job:
            return to_message(pb.VerifyReport, self._machine.runner.verify(job))

    @unary
    def Profile(self, request: Any, context: Any) -> Any:
        with self._run(request, context, synthetic=request.synthetic_weights) as job:
            profile = self._machine.runner.profile(job, max(1, request.repeats))
        return to_message(pb.ProfileReply, profile)

    @streaming
    def Measure(self, request: Any, context: Any) -> Iterator[Any]:
        plan = plan_of(request.plan)

        with self._run(request, context, synthetic=request.synthetic_weights) as job:
            task = Task(job, plan, self._anchor(request, job))

            def work(emit: Callable[[Any], None]) -> None:
                told = Teller(emit, held=lambda: self._live(request.token))
                told.energy(measure(self._machine, task, told.listener))
                measured = told.measured(self._machine.identity, AGENT_VERSION, request, plan)
                told.receipt(self._signer.sign(measured.statement()))

            yield from events(work, self._machine.runner.cancel)

    def _anchor(self, request: Any, job: Job) -> Job | None:
        if not request.anchor:
            return None
        manifest = self._manifest(request.token, request.anchor, synthetic=job.synthetic)
        return replace(job, manifest=manifest)

    def _live(self, token: Any) -> bool:
        try:
            self._check(token)
        except NotYourLease:
            return False
        return True

    @streaming
    def Infer(self, request: Iterator[Any], context: Any) -> Iterator[Any]:
        first = next(request, None)
        if first is None:
            return
        with self._run(first, context) as job:

            def batches() -> Iterator[np.ndarray]:
                yield array(first.samples)
                for item in until_broken(request):
                    yield array(item.samples)

            for outputs in self._machine.runner.infer(job, batches()):
                yield pb.InferReply(outputs=tensor(outputs))

    @streaming
    def Telemetry(self, request: Any, context: Any) -> Iterator[Any]:
        ended = threading.Event()
        context.add_callback(ended.set)
        sent = 0
        while not ended.is_set():
            yield to_message(pb.Conditions, self._machine.probes.read())
            sent += 1
            if sent == request.count or ended.wait(max(0.05, request.period_s)):
                return

    @unary
    def Cancel(self, request: Any, context: Any) -> Any:
        self._check(request.token)
        running = self._running.locked()
        self._machine.runner.cancel()
        return pb.CancelReply(cancelled=running)

    def _state(self, quarantine: str) -> int:
        if quarantine:
            return int(pb.STATE_QUARANTINED)
        if self._running.locked():
            return int(pb.STATE_MEASURING)
        return int(pb.STATE_LEASED if self._leases.current() else pb.STATE_FREE)

    def _manifest(self, token: Any, digest: str, *, synthetic: bool) -> Mapping[str, Any]:
        """Return the manifest of a complete artifact that was announced under this lease."""
        lease = self._check(token)
        self._announced.check(lease.fence, [check_digest(digest)])
        manifest = self._artifacts.manifest(digest)
        self._announced.check(lease.fence, self._artifacts.require(manifest, weights=not synthetic))
        return manifest

    @contextmanager
    def _run(self, request: Any, context: Any, *, synthetic: bool = False) -> Iterator[Job]:
        """Check lease and artifact; one job at a time, and a caller that leaves ends it."""
        manifest = self._manifest(request.token, request.artifact, synthetic=synthetic)
        if not self._running.acquire(blocking=False):
            raise Busy("a measurement is running on the board")
        run = self._current = object()
        context.add_callback(lambda: self._end_if_current(run))
        try:
            yield Job(manifest, self._artifacts.blobs.folder, synthetic, limits(request))
        finally:
            self._current = None
            self._running.release()

    def _end_if_current(self, run: object) -> None:
        if self._current is run:
            self._machine.runner.cancel()

    def _end_run(self) -> None:
        """Cancel what runs and wait until it is gone."""
        self._machine.runner.cancel()
        if self._running.acquire(timeout=CANCEL_WAIT_S):
            self._running.release()
