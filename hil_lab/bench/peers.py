"""The runtimes that a user would otherwise pick: each takes a network, then a number of threads.

What is timed is the call alone: the input is bound before, as far as a runtime allows.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from host.registry import Registry

Runner = Callable[[], Any]
# Threads -> what runs the network once; made anew for every number of threads.
Threaded = Callable[[int], Runner]
Prepare = Callable[[nn.Module, torch.Tensor], Threaded]
CALIBRATION_IMAGES = 16


class PeerUnavailable(Exception):
    """A runtime is not installed or refuses the network; says so in one sentence."""


FP32_PEERS: Registry[Prepare] = Registry("peer")
INT8_PEERS: Registry[Prepare] = Registry("peer")


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn whatever a peer raises into PeerUnavailable."""
    try:
        yield
    except PeerUnavailable:
        raise
    except Exception as e:  # every runtime raises what it likes
        raise PeerUnavailable(f"{name}: {str(e).strip().partition(chr(10))[0]}") from e


@FP32_PEERS.register("torch")
def torch_eager(network: nn.Module, sample: torch.Tensor) -> Threaded:
    """PyTorch as it is."""

    def run() -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = network(sample).numpy()
        return result

    def threaded(threads: int) -> Runner:
        torch.set_num_threads(threads)
        return run

    return threaded


@FP32_PEERS.register("torch.compile")
def torch_compiled(network: nn.Module, sample: torch.Tensor) -> Threaded:
    """PyTorch through inductor, which needs a C++ compiler; a number of threads is compiled in."""

    def threaded(threads: int) -> Runner:
        torch.compiler.reset()
        return torch_eager(cast(nn.Module, torch.compile(network)), sample)(threads)

    return threaded


@FP32_PEERS.register("onnxruntime")
def onnxruntime(network: nn.Module, sample: torch.Tensor) -> Threaded:
    """ONNX Runtime on the exported network."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "net.onnx"
        _export(network, sample, exported)
        return _sessions(exported.read_bytes(), sample)


@INT8_PEERS.register("onnxruntime int8")
def onnxruntime_int8(network: nn.Module, sample: torch.Tensor) -> Threaded:
    """ONNX Runtime's static quantization: symmetric weights per channel, calibrated inputs."""
    quantization = _module("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        exported, inferred, out = (root / f"{step}.onnx" for step in ("net", "inferred", "int8"))
        _export(network, sample, exported)
        infer = _module("onnxruntime.quantization.shape_inference").quant_pre_process
        infer(str(exported), str(inferred))
        quantization.quantize_static(
            str(inferred),
            str(out),
            _Calibration(sample),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
        return _sessions(out.read_bytes(), sample)


@FP32_PEERS.register("ncnn")
def ncnn(network: nn.Module, sample: torch.Tensor) -> Threaded:
    """Tencent's ncnn on the network converted by pnnx; loaded anew for a number of threads."""
    library = _module("ncnn")
    pnnx = _module("pnnx")
    names = ("net.ncnn.param", "net.ncnn.bin")
    with tempfile.TemporaryDirectory() as folder:
        with _silenced():
            pnnx.export(network, f"{folder}/net.pt", sample)
        files = {name: (Path(folder) / name).read_bytes() for name in names}
    image = library.Mat(sample[0].numpy())

    def threaded(threads: int) -> Runner:
        net = library.Net()
        net.opt.num_threads = threads
        with tempfile.TemporaryDirectory() as folder, _silenced():
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            param, model = (f"{folder}/{name}" for name in names)
            failed = net.load_param(param) or net.load_model(model)
        if failed:
            raise PeerUnavailable("ncnn: the converted network cannot be loaded")

        def run() -> np.ndarray:
            with net.create_extractor() as extractor:
                extractor.input("in0", image)
                _, out = extractor.extract("out0")
                return np.array(out)[None]

        return run

    return threaded


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what native code writes to the terminal away from it, for results go there."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(fd) for fd in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for fd in (1, 2):
            os.dup2(nowhere, fd)
        yield
    finally:
        for fd, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, fd)
            os.close(copy)
        os.close(nowhere)


class _Calibration:
    """The calibration images, one at a time, as onnxruntime asks for them."""

    def __init__(self, sample: torch.Tensor) -> None:
        generator = torch.Generator().manual_seed(2)
        shape = (CALIBRATION_IMAGES, *sample.shape[1:])
        self.images = iter(torch.split(torch.randn(shape, generator=generator), 1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"x": image.numpy()}


def _export(network: nn.Module, sample: torch.Tensor, path: Path) -> None:
    _module("onnxscript")
    program = torch.onnx.export(
        network, (sample,), input_names=["x"], output_names=["y"], dynamo=True, verbose=False
    )
    assert program is not None
    program.save(str(path))


def _sessions(model: bytes, sample: torch.Tensor) -> Threaded:
    runtime = _module("onnxruntime")
    feed = {"x": sample.numpy()}

    def threaded(threads: int) -> Runner:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def run() -> np.ndarray:
            result: np.ndarray = session.run(None, feed)[0]
            return result

        return run

    return threaded


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        package = name.partition(".")[0]
        raise PeerUnavailable(f"{package} is not installed: pip install 'hil-lab[bench]'") from e
