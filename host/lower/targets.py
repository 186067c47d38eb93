"""The machines that programs are built for, and what their kernels can do; never imports TVM."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from host.errors import CallerError
from host.policy import Mode
from host.registry import Registry, did_you_mean
from host.types import Layer

Arch = Literal["aarch64", "x86_64"]
Int8 = Literal["smull", "pmaddwd", "vpdpbusd"]
# Bit planes are packed in bytes along the channels: fewer channels than a byte waste most of it.
MIN_MIX_CHANNELS = 8
# What the level x86-64-v4 adds, as Linux names it.
V4_FLAGS = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
VNNI_FLAG = "avx512_vnni"


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of processor.

    `fp32_lanes` is the float32 width of a vector register, of which there are `vector_registers`;
    `fma_per_cycle` vectors are multiplied a cycle, each taking `fma_latency` cycles. Channels of
    float kernels are padded to multiples of `tile_channels`. `int8` names the instructions that
    multiply bytes. What `l2_bytes` do not hold comes at `stream_bytes_per_cycle`.
    """

    name: str
    arch: Arch
    triple: str
    llvm_cpu: str
    llvm_features: tuple[str, ...]
    cores: int
    fp32_lanes: int
    tile_channels: int
    vector_registers: int
    fma_per_cycle: int
    fma_latency: int
    int8: Int8
    l2_bytes: int
    stream_bytes_per_cycle: float

    def tvm(self) -> dict[str, Any]:
        """Return the TVM target description."""
        target: dict[str, Any] = {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.llvm_cpu,
            "num-cores": self.cores,
            # Level 3 unrolls short reductions whole, and then runs out of registers.
            "opt-level": 2,
        }
        if self.llvm_features:
            target["mattr"] = list(self.llvm_features)
        return target


# Targets of boards, by the machine that they say they are.
ARCH_TARGETS = {"aarch64": "cortex-a72", "x86_64": "x86-64"}
TARGETS: Registry[Callable[[], Target]] = Registry("target")


@TARGETS.register("cortex-a72")
def cortex_a72() -> Target:
    """Raspberry Pi 4: Armv8.0, NEON without dot products."""
    return Target(
        "cortex-a72",
        "aarch64",
        "aarch64-linux-gnu",
        "cortex-a72",
        ("+neon",),
        cores=4,
        fp32_lanes=4,
        tile_channels=8,
        vector_registers=32,
        fma_per_cycle=1,
        fma_latency=7,
        int8="smull",
        l2_bytes=1 << 20,
        stream_bytes_per_cycle=2.7,  # STREAM's 4.8 GB/s at 1.8 GHz
    )


@TARGETS.register("x86-64")
def x86_64() -> Target:
    """Any x86-64 with AVX2 and FMA (x86-64-v3)."""
    return Target(
        "x86-64",
        "x86_64",
        "x86_64-linux-gnu",
        "x86-64-v3",
        (),
        cores=2,
        fp32_lanes=8,
        tile_channels=16,
        vector_registers=16,
        fma_per_cycle=2,
        fma_latency=4,
        int8="pmaddwd",
        l2_bytes=1 << 20,
        stream_bytes_per_cycle=20.0,  # 77 GB/s at 3.5 GHz: an EPYC from its L3
    )


@TARGETS.register("x86-64-v4")
def x86_64_v4() -> Target:
    """x86-64 with AVX-512 (x86-64-v4), whose full width LLVM uses only when told to."""
    return replace(
        x86_64(),
        name="x86-64-v4",
        llvm_cpu="x86-64-v4",
        llvm_features=("-prefer-256-bit",),
        fp32_lanes=16,
        vector_registers=32,
    )


@TARGETS.register("x86-64-v4-vnni")
def x86_64_v4_vnni() -> Target:
    """x86-64-v4 with products of bytes (Intel since Cascade Lake, AMD since Zen 4)."""
    v4 = x86_64_v4()
    features = (*v4.llvm_features, "+avx512vnni")
    return replace(v4, name="x86-64-v4-vnni", llvm_features=features, int8="vpdpbusd")


def target_of(arch: str) -> Target:
    """Return what is built for a board of this machine; raises CallerError for another one."""
    if arch not in ARCH_TARGETS:
        raise CallerError(f'no target for machine "{arch}"{did_you_mean(arch, ARCH_TARGETS)}')
    return TARGETS[ARCH_TARGETS[arch]]()


def refusal(layer: Layer, mode: Mode, weight_bits: int, act_bits: int) -> str | None:
    """Say why the kernels of every target refuse a number format for a layer, or return None."""
    if mode == "fp32":
        return None
    if layer.groups != 1 and not (mode == "int8" and layer.depthwise):
        taken = "ungrouped and depthwise" if mode == "int8" else "ungrouped"
        return (
            f"{layer.name}: {mode} kernels take {taken} layers, this one has {layer.groups} groups"
        )
    if mode == "mix" and layer.in_channels < MIN_MIX_CHANNELS:
        return (
            f"{layer.name}: bit-serial kernels take at least {MIN_MIX_CHANNELS} input channels, "
            f"this layer has {layer.in_channels}"
        )
    return None


def local_target(cpuinfo: Path = Path("/proc/cpuinfo")) -> Target:
    """Return the target that uses this machine's vectors in full."""
    if platform.machine() == "aarch64":
        return cortex_a72()
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    if not flags >= V4_FLAGS:
        return x86_64()
    return x86_64_v4_vnni() if VNNI_FLAG in flags else x86_64_v4()
