"""Helpers of the servicer at the edge to gRPC: status codes, tensors, streams; no domain logic."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np

from device_agent.errors import AgentError, DiskFull, Rejected
from device_agent.values import DEFAULT_DEADLINE_S, DEFAULT_MEMORY_LIMIT_BYTES, Limits
from protos import board_pb2 as pb
from protos.convert import from_message
from protos.values import TimingPlan

REASON_KEY = "hil-reason"
_DTYPE_KINDS = "fiub"

Emit = Callable[[Any], None]


def abort(context: Any, error: AgentError) -> None:
    """End a call with the status code and the reason of a domain error."""
    context.set_trailing_metadata(((REASON_KEY, error.reason), *error.details))
    context.abort(grpc.StatusCode[error.code], str(error))


def unary(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn domain errors of a call with one reply, and a full disk, into status codes."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: Any) -> Any:
        try:
            return method(self, request, context)
        except AgentError as e:
            return abort(context, e)
        except OSError as e:
            return abort(context, DiskFull.of(e))

    return call


def streaming(method: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Turn domain errors of a call with many replies, and a full disk, into status codes."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: Any) -> Iterator[Any]:
        try:
            yield from method(self, request, context)
        except AgentError as e:
            abort(context, e)
        except OSError as e:
            abort(context, DiskFull.of(e))

    return call


def events(work: Callable[[Emit], None], cancel: Callable[[], None]) -> Iterator[Any]:
    """Run `work` in a thread and yield what it emits; raise what it raises.

    When the reader stops early, `cancel` ends the work, and it is waited for.
    """
    emitted: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            work(lambda event: emitted.put((event, None)))
        except BaseException as e:  # handed to the reader, which raises it
            emitted.put((None, e))
        else:
            emitted.put((None, None))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (item := emitted.get())[0] is not None:
            yield item[0]
        if item[1] is not None:
            raise item[1]
    except GeneratorExit:
        cancel()
        raise
    finally:
        thread.join()


def until_broken(requests: Iterator[Any]) -> Iterator[Any]:
    """Yield requests until the caller ends the stream or the connection breaks."""
    try:
        yield from requests
    except grpc.RpcError:
        return


def lease_reply(fence: int, secret: str, ttl_s: float) -> Any:
    """Return the message of a lease."""
    return pb.LeaseReply(token=pb.LeaseToken(fence=fence, secret=secret), ttl_s=ttl_s)


def plan_of(message: Any) -> TimingPlan:
    """Return the plan of a message; raises Rejected for an impossible one."""
    try:
        return from_message(TimingPlan, message)
    except ValueError as e:
        raise Rejected(str(e)) from e


def limits(request: Any) -> Limits:
    """Return the limits that a request asks for, or the defaults."""
    memory_bytes = getattr(request, "memory_limit_bytes", 0) or DEFAULT_MEMORY_LIMIT_BYTES
    return Limits(request.deadline_s or DEFAULT_DEADLINE_S, memory_bytes)


def array(message: Any) -> np.ndarray:
    """Return the array of a tensor message; raises Rejected where its bytes do not fit."""
    try:
        dtype = np.dtype(message.dtype)
        if dtype.kind not in _DTYPE_KINDS:
            raise ValueError(f"dtype {message.dtype}")
        return np.frombuffer(message.data, dtype).reshape(tuple(message.shape))
    except (ValueError, TypeError) as e:
        raise Rejected(f"malformed tensor: {e}") from e


def tensor(values: np.ndarray) -> Any:
    """Return the tensor message of an array."""
    return pb.Tensor(dtype=values.dtype.name, shape=values.shape, data=values.tobytes())
