"""Writes what a board answers to a tape, as it passes on the wire; changes nothing of it.

It sits on the channel, so that every command records alike, and failures as the wire had them.
Heartbeats are left out: when they come depends on the clock, and their loss shows in the next call.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import grpc

from host.boards.tape import Failure, Tape
from host.boards.types import Block, Conditions, Energy, Profile, Receipt, VerifyReport
from host.boards.wire import REASON_KEY
from protos.convert import from_message
from protos.values import TimingPlan

SILENT = ("Renew", "Release", "Cancel")


def recorded(channel: grpc.Channel, tape: Tape | None) -> grpc.Channel:
    """Return the channel with a recorder on it, or as it is without a tape."""
    return channel if tape is None else grpc.intercept_channel(channel, Recorder(tape))


class Recorder(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Notes every call with its answer, or how it failed and after how many seconds."""

    def __init__(self, tape: Tape, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._tape = tape
        self._clock_s = clock_s
        self._structures: dict[str, str] = {}

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Note a call with one answer."""
        name, start_s = _name(details), self._clock_s()
        outcome = continuation(details, request)
        failure = self._failure(name, outcome.exception(), start_s)
        note = {"Verify": self._verify, "Profile": self._profile}.get(name)
        if note:
            note(request, outcome, failure)
        elif failure:
            self._failed(failure)
        elif name == "Describe":
            self._described(outcome.result())
        elif name == "PutArtifact":
            self._program(request.manifest_json)
        return outcome

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        """Note how an upload failed."""
        name, start_s = _name(details), self._clock_s()
        outcome = continuation(details, requests)
        if failure := self._failure(name, outcome.exception(), start_s):
            self._failed(failure)
        return outcome

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Note a measurement when it ends, or telemetry as it comes."""
        name = _name(details)
        if name == "Measure":
            return _Stream(continuation(details, request), _Measured(self, request))
        return _Stream(continuation(details, request), _Telemetry(self, name))

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        """Note what went into a program and what came out."""
        inferred = _Inferred(self)
        return _Stream(continuation(details, inferred.hearing(requests)), inferred)

    def ended(self, what: str, name: str, error: Any, start_s: float, **fields: Any) -> None:
        """Write how a stream ended; one that we ended ourselves says nothing of the board."""
        failure = self._failure(name, error, start_s)
        if error is None or failure is not None:
            self._tape.write(what, failure, **fields)

    def write(self, what: str, **fields: Any) -> None:
        """Write a line."""
        self._tape.write(what, **fields)

    def now_s(self) -> float:
        """Return the time by the recorder's clock."""
        return self._clock_s()

    def structure(self, artifact: str) -> str:
        """Return the structure of a program that was sent, '' of none."""
        return self._structures.get(artifact, "")

    def _verify(self, request: Any, outcome: Any, failure: Failure | None) -> None:
        report = None if failure else asdict(from_message(VerifyReport, outcome.result()))
        self._tape.write("verify", failure, artifact=request.artifact, report=report)

    def _profile(self, request: Any, outcome: Any, failure: Failure | None) -> None:
        profile = None if failure else asdict(from_message(Profile, outcome.result()))
        structure = self.structure(request.artifact)
        fields = {"structure": structure, "repeats": request.repeats, "profile": profile}
        self._tape.write("profile", failure, **fields)

    def _described(self, reply: Any) -> None:
        self._tape.identity(
            name=reply.name,
            kind=reply.kind,
            arch=reply.arch,
            agent=reply.agent_version,
            fingerprint=dict(reply.fingerprint),
            capabilities=list(reply.capabilities),
        )

    def _program(self, manifest_json: bytes) -> None:
        manifest, artifact = json.loads(manifest_json), hashlib.sha256(manifest_json).hexdigest()
        if artifact not in self._structures:
            self._structures[artifact] = str(manifest["structure"])
            arch, structure = manifest["arch"], manifest["structure"]
            self._tape.write("program", artifact=artifact, structure=structure, arch=arch)

    def _failed(self, failure: Failure) -> None:
        if failure.call not in SILENT:
            self._tape.write("failure", failure)

    def _failure(self, name: str, error: Any, start_s: float) -> Failure | None:
        if not isinstance(error, grpc.RpcError):
            return None
        reason = str(dict(error.trailing_metadata() or ()).get(REASON_KEY, ""))
        if error.code() is grpc.StatusCode.CANCELLED and not reason:
            return None
        after_s = round(self._clock_s() - start_s, 3)
        return Failure(name, error.code().name, reason, str(error.details()), after_s)


class _Stream:
    """A stream of answers that a listener hears; `cancel` is the call's own."""

    def __init__(self, call: Any, listener: _Listener) -> None:
        self._call = call
        self._listener = listener

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        try:
            message = next(self._call)
        except StopIteration:
            self._listener.end(None)
            raise
        except grpc.RpcError as e:
            self._listener.end(e)
            raise
        self._listener.hear(message)
        return message

    def cancel(self) -> Any:
        """Cancel the call."""
        return self._call.cancel()


class _Listener:
    """Hears the messages of one stream, and its end."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._start_s = recorder.now_s()

    def hear(self, message: Any) -> None:
        """Take one message."""

    def end(self, error: Any) -> None:
        """Take the end; an error where it failed."""


class _Telemetry(_Listener):
    def __init__(self, recorder: Recorder, name: str) -> None:
        super().__init__(recorder)
        self._name = name

    def hear(self, message: Any) -> None:
        self._recorder.write("telemetry", conditions=asdict(from_message(Conditions, message)))

    def end(self, error: Any) -> None:
        if error is not None:
            self._recorder.ended("failure", self._name, error, self._start_s)


class _Measured(_Listener):
    def __init__(self, recorder: Recorder, request: Any) -> None:
        super().__init__(recorder)
        self._request = request
        self._blocks: list[Any] = []
        self._anchors: list[Any] = []
        self._once: dict[str, Any] = {"energy": None, "receipt": None}

    def hear(self, message: Any) -> None:
        kind = message.WhichOneof("event")
        if kind == "block":
            self._blocks.append(asdict(from_message(Block, message.block)))
        elif kind == "anchor":
            self._anchors.append(asdict(from_message(Block, message.anchor)))
        elif kind == "energy":
            self._once[kind] = asdict(from_message(Energy, message.energy))
        elif kind == "receipt":
            self._once[kind] = asdict(from_message(Receipt, message.receipt))

    def end(self, error: Any) -> None:
        request, of = self._request, self._recorder.structure
        self._recorder.ended(
            "measure",
            "Measure",
            error,
            self._start_s,
            structure=of(request.artifact),
            anchor=of(request.anchor),
            plan=asdict(from_message(TimingPlan, request.plan)),
            blocks=self._blocks,
            anchors=self._anchors,
            **self._once,
        )


class _Inferred(_Listener):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._artifact = ""
        self._inputs, self._outputs = hashlib.sha256(), hashlib.sha256()
        self._tensors: list[Any] = []

    def hearing(self, requests: Iterator[Any]) -> Iterator[Any]:
        """Pass requests on and remember what went in."""
        for request in requests:
            self._artifact = request.artifact
            self._inputs.update(request.samples.data)
            yield request

    def hear(self, message: Any) -> None:
        tensor = message.outputs
        self._outputs.update(tensor.data)
        data = base64.b64encode(tensor.data).decode()
        self._tensors.append({"dtype": tensor.dtype, "shape": list(tensor.shape), "data": data})

    def end(self, error: Any) -> None:
        fields = {"artifact": self._artifact, "tensors": self._tensors}
        fields |= {"inputs": self._inputs.hexdigest(), "outputs": self._outputs.hexdigest()}
        self._recorder.ended("infer", "Infer", error, self._start_s, **fields)


def _name(details: Any) -> str:
    return str(details.method).rpartition("/")[2]
