"""Failures of the wire and of leases that a recording holds, each at its place; answers nothing.

A failure is due once all measurements, proofs and profiles that came before it were answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from device_agent.errors import AgentError
from device_agent.measure import Machine
from hil_lab.simboard.recording import Recording
from hil_lab.simboard.replay import FailedThen, ReplayRunner
from host.boards.tape import RUNS, Failure, failure_of
from host.boards.wire import REASON_KEY


def recorded_failures(machine: Machine) -> tuple[grpc.ServerInterceptor, ...]:
    """Return what a server needs for the failures of a recording; nothing for other machines."""
    runner = machine.runner
    return (RecordedFailures(runner.recording),) if isinstance(runner, ReplayRunner) else ()


@dataclass(frozen=True, slots=True)
class Due:
    """A failure, and how many answers come before it."""

    after: int
    failure: Failure


class RecordedFailures(grpc.ServerInterceptor):  # type: ignore[misc]
    """Fails calls as they failed on the recorded board, each failure once."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._lock = threading.Lock()
        self._due = _failures(recording)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Fail the call where a failure of it is due, else go on."""
        failure = self._take(str(details.method).rpartition("/")[2])
        handler = continuation(details)
        return handler if failure is None else _failing(handler, FailedThen(failure))

    def _take(self, call: str) -> Failure | None:
        with self._lock:
            for due in self._due:
                if due.failure.call == call and due.after <= self._recording.answered:
                    self._due.remove(due)
                    return due.failure
        return None


def _failures(recording: Recording) -> list[Due]:
    found, answers = [], 0
    for line in recording.lines:
        answers += line["what"] in RUNS
        failure = failure_of(line)
        if failure and line["what"] == "failure":
            found.append(Due(answers, failure))
    return found


def _failing(handler: Any, error: AgentError) -> Any:
    """Return a handler of the same kind that fails at once."""

    def fail(request: Any, context: Any) -> Any:
        if error.reason:
            context.set_trailing_metadata(((REASON_KEY, error.reason),))
        context.abort(grpc.StatusCode[error.code], str(error))

    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = kinds[handler.request_streaming, handler.response_streaming]
    return make(fail, handler.request_deserializer, handler.response_serializer)
