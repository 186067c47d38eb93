"""The runtimes that a user would otherwise pick, each as one function that runs a network once."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from host.registry import Registry

Runner = Callable[[], np.ndarray]
Prepare = Callable[[nn.Module, torch.Tensor, int], Runner]
CALIBRATION_IMAGES = 16


class PeerUnavailable(Exception):
    """A runtime is not installed or refuses the network; says so in one sentence."""


FP32_PEERS: Registry[Prepare] = Registry("peer")
INT8_PEERS: Registry[Prepare] = Registry("peer")


@FP32_PEERS.register("torch")
def torch_eager(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
    """PyTorch as it is."""
    torch.set_num_threads(threads)

    def run() -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = network(sample).numpy()
        return result

    return run


@FP32_PEERS.register("torch.compile")
def torch_compiled(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
    """PyTorch through inductor, which needs a C++ compiler."""
    torch.set_num_threads(threads)
    compiled = torch.compile(network)

    def run() -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = compiled(sample).numpy()
        return result

    try:
        run()
    except Exception as e:  # inductor raises whatever its compiler raises
        raise PeerUnavailable(f"torch.compile: {str(e).strip().partition(chr(10))[0]}") from e
    return run


@FP32_PEERS.register("onnxruntime")
def onnxruntime(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
    """ONNX Runtime on the exported network."""
    with tempfile.TemporaryDirectory() as folder:
        return _session(_export(network, sample, Path(folder)), sample, threads)


@INT8_PEERS.register("onnxruntime int8")
def onnxruntime_int8(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
    """ONNX Runtime's static quantization: symmetric weights per channel, calibrated inputs."""
    quantization = _module("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        exported, prepared, out = (
            _export(network, sample, root),
            root / "prepared.onnx",
            root / "int8.onnx",
        )
        preprocess = _module("onnxruntime.quantization.shape_inference").quant_pre_process
        preprocess(str(exported), str(prepared))
        quantization.quantize_static(
            str(prepared),
            str(out),
            _Calibration(sample),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
        return _session(out, sample, threads)


@FP32_PEERS.register("ncnn")
def ncnn(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
    """Tencent's ncnn on the network converted by pnnx."""
    library = _module("ncnn")
    pnnx = _module("pnnx")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            with _silenced():
                pnnx.export(network, str(root / "net.pt"), sample)
        except Exception as e:  # pnnx is a program of its own behind one function
            raise PeerUnavailable(f"ncnn: pnnx cannot convert the network: {e}") from e
        net = library.Net()
        net.opt.num_threads = threads
        with _silenced():
            failed = net.load_param(str(root / "net.ncnn.param")) or net.load_model(
                str(root / "net.ncnn.bin")
            )
        if failed:
            raise PeerUnavailable("ncnn: the converted network cannot be loaded")
    image = sample[0].numpy()

    def run() -> np.ndarray:
        with net.create_extractor() as extractor:
            extractor.input("in0", library.Mat(image))
            _, out = extractor.extract("out0")
            return np.array(out)[None]

    return run


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


def _export(network: nn.Module, sample: torch.Tensor, folder: Path) -> Path:
    _module("onnxscript")
    path = folder / "net.onnx"
    program = torch.onnx.export(
        network, (sample,), input_names=["x"], output_names=["y"], dynamo=True, verbose=False
    )
    assert program is not None
    program.save(str(path))
    return path


def _session(model: Path, sample: torch.Tensor, threads: int) -> Runner:
    runtime = _module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feed = {"x": sample.numpy()}

    def run() -> np.ndarray:
        result: np.ndarray = session.run(None, feed)[0]
        return result

    return run


def _module(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as e:
        package = name.partition(".")[0]
        raise PeerUnavailable(f"{package} is not installed: pip install 'hil-lab[bench]'") from e
