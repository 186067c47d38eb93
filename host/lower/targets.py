"""The machines that programs are built for, and what their kernels can do; never imports TVM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from host.policy import Mode
from host.registry import Registry
from host.types import Layer

Arch = Literal["aarch64", "x86_64"]
# Bit planes are packed in bytes along the channels: fewer channels than a byte waste most of it.
MIN_MIX_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of processor.

    `fp32_lanes` is the float32 width of a vector register; a float kernel keeps `tile_pixels` x
    `tile_channels` accumulators in registers.
    """

    name: str
    arch: Arch
    triple: str
    llvm_cpu: str
    llvm_features: tuple[str, ...]
    cores: int
    fp32_lanes: int
    tile_channels: int
    tile_pixels: int

    def tvm(self) -> dict[str, Any]:
        """Return the TVM target description."""
        target: dict[str, Any] = {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.llvm_cpu,
            "num-cores": self.cores,
        }
        if self.llvm_features:
            target["mattr"] = list(self.llvm_features)
        return target


TARGETS: Registry[Callable[[], Target]] = Registry("target")


@TARGETS.register("cortex-a72")
def cortex_a72() -> Target:
    """Raspberry Pi 4: Armv8.0, NEON without dot products."""
    return Target(
        "cortex-a72", "aarch64", "aarch64-linux-gnu", "cortex-a72", ("+neon",), 4, 4, 8, 8
    )


@TARGETS.register("x86-64")
def x86_64() -> Target:
    """Any x86-64 with AVX2 and FMA (x86-64-v3)."""
    return Target("x86-64", "x86_64", "x86_64-linux-gnu", "x86-64-v3", (), 2, 8, 16, 6)


def refusal(layer: Layer, mode: Mode, weight_bits: int, act_bits: int) -> str | None:
    """Say why the kernels of every target refuse a number format for a layer, or return None."""
    if mode == "fp32":
        return None
    if layer.groups != 1:
        return (
            f"{layer.name}: {mode} kernels take ungrouped layers, "
            f"this one has {layer.groups} groups"
        )
    if mode == "mix" and layer.in_channels < MIN_MIX_CHANNELS:
        return (
            f"{layer.name}: bit-serial kernels take at least {MIN_MIX_CHANNELS} input channels, "
            f"this layer has {layer.in_channels}"
        )
    return None


def local_target() -> Target:
    """Return the target of this machine."""
    import platform

    return TARGETS["cortex-a72" if platform.machine() == "aarch64" else "x86-64"]()
