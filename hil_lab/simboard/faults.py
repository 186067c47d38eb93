"""Faults on request: of the program, of the board, of the wire; each one named, none random."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import grpc

from device_agent.errors import Crashed, Hung, OutOfMemory
from device_agent.values import Limits
from hil_lab.simboard.thermal import Physics
from protos.values import TimingPlan

Fault = Literal[
    "crash", "hang", "memory", "throttle", "brown-out", "slow-network", "corrupt-upload",
    "lying-governor", "silent-throttle", "drift", "lost-readings",
]  # fmt: skip
FAULTS: tuple[str, ...] = get_args(Fault)
HOT_AMBIENT_C = 64.0  # a closed box in the sun: idle at the throttling temperature
LYING_RATIO = 1500 / 1800  # what the governor sets is not what the cores run at
SILENT_RATIO, SILENT_SHARE = 0.6, 0.4  # the clock falls so far, after this share of a window
DRIFT_AFTER, DRIFT_RATIO = 5, 1.03  # measurements, and how much slower the board is then
LOST_SHARE = 0.02
SLOW_CALL_S = 0.2
_PUT_BLOB = "/hil.v1.Board/PutBlob"


def run_fault(fault: str | None, limits: Limits, physics: Physics) -> None:
    """Fail the way a program would; virtual time passes where real time would."""
    if fault == "crash":
        raise Crashed("the program died: SIGSEGV")
    if fault == "memory":
        raise OutOfMemory(f"the program took more than {limits.memory_bytes >> 20} MiB")
    if fault == "hang":
        physics.sleep(limits.deadline_s)
        raise Hung(f"no answer in {limits.deadline_s:g} s: the program hangs")
    if fault == "brown-out":
        physics.under_voltage = True


def hidden_ratio(fault: str | None) -> float:
    """Return the real clock as a share of the shown one when a measurement begins."""
    return LYING_RATIO if fault == "lying-governor" else 1.0


def drift_ratio(fault: str | None, measurements: int) -> float:
    """Return how much slower the board is in its measurement of a number."""
    return DRIFT_RATIO if fault == "drift" and measurements > DRIFT_AFTER else 1.0


def lost_share(fault: str | None) -> float:
    """Return the share of power readings that never come."""
    return LOST_SHARE if fault == "lost-readings" else 0.0


class SilentThrottle:
    """Lowers the clock within every window and sets no bit; without the fault, nothing."""

    def __init__(
        self,
        fault: str | None,
        plan: TimingPlan,
        physics: Physics,
        on_phase: Callable[[str], None],
    ) -> None:
        self._physics = physics
        self._tell = on_phase
        self._after_ns = round(plan.seconds * SILENT_SHARE * 1e9)
        self._from_ns: int | None = None
        self._active = fault == "silent-throttle"

    def on_phase(self, phase: str) -> None:
        """Note when the window begins, and pass it on."""
        if self._active and phase == "sample":
            self._from_ns = self._physics.now_ns + self._after_ns
        self._tell(phase)

    def around(self, invoke: Callable[[], None]) -> Callable[[], None]:
        """Return an invocation that throttles once it is time."""
        if not self._active:
            return invoke

        def run() -> None:
            if self._from_ns is not None and self._physics.now_ns >= self._from_ns:
                self._physics.hidden_ratio = SILENT_RATIO
            invoke()

        return run


class SlowNetwork(grpc.ServerInterceptor):  # type: ignore[misc]
    """Delays every call by a fixed time."""

    def __init__(
        self, delay_s: float = SLOW_CALL_S, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._delay_s = delay_s
        self._sleep = sleep

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wait, then go on."""
        self._sleep(self._delay_s)
        return continuation(details)


class CorruptUpload(grpc.ServerInterceptor):  # type: ignore[misc]
    """Flips a bit of the first uploads' first chunk."""

    def __init__(self, uploads: int = 1) -> None:
        self._left = uploads
        self._lock = threading.Lock()

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Replace the upload's handler by one that damages what it gets."""
        handler = continuation(details)
        if details.method != _PUT_BLOB or not self._take():
            return handler

        def damaged(requests: Iterator[Any], context: Any) -> Any:
            return handler.stream_unary(_damaged(requests), context)

        return grpc.stream_unary_rpc_method_handler(
            damaged, handler.request_deserializer, handler.response_serializer
        )

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


def _damaged(requests: Iterator[Any]) -> Iterator[Any]:
    for number, chunk in enumerate(requests):
        if number == 0 and chunk.data:
            chunk.data = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]
        yield chunk


def interceptors(fault: str | None) -> tuple[grpc.ServerInterceptor, ...]:
    """Return what a server needs for a fault of the wire."""
    if fault == "slow-network":
        return (SlowNetwork(),)
    return (CorruptUpload(),) if fault == "corrupt-upload" else ()
