"""The runtimes that a user would otherwise pick, each as one function that runs a network once."""

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

Runner = Callable[[], np.ndarray]
Prepare = Callable[[nn.Module, torch.Tensor, int], Runner]
CALIBRATION_IMAGES = 16


class PeerUnavailable(Exception):
    """A runtime is not installed or refuses the network; says so in one sentence."""


FP32_PEERS: Registry[Prepare] = Registry("peer")
INT8_PEERS: Registry[Prepare] = Registry("peer")


def prepared(
    name: str, prepare: Prepare, network: nn.Module, sample: torch.Tensor, threads: int
) -> Runner:
    """Return a peer's runner, which has run once; raises PeerUnavailable for any reason."""
    try:
        run = prepare(network, sample, threads)
        run()
    except PeerUnavailable:
        raise
    except Exception as e:  # every runtime raises what it likes
        raise PeerUnavailable(f"{name}: {str(e).strip().partition(chr(10))[0]}") from e
    return run


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
    return torch_eager(cast(nn.Module, torch.compile(network)), sample, threads)


@FP32_PEERS.register("onnxruntime")
def onnxruntime(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
    """ONNX Runtime on the exported network."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "net.onnx"
        _export(network, sample, exported)
        return _session(exported, sample, threads)


@INT8_PEERS.register("onnxruntime int8")
def onnxruntime_int8(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
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
        return _session(out, sample, threads)


@FP32_PEERS.register("ncnn")
def ncnn(network: nn.Module, sample: torch.Tensor, threads: int) -> Runner:
    """Tencent's ncnn on the network converted by pnnx."""
    library = _module("ncnn")
    pnnx = _module("pnnx")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with _silenced():
            pnnx.export(network, str(root / "net.pt"), sample)
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


def _export(network: nn.Module, sample: torch.Tensor, path: Path) -> None:
    _module("onnxscript")
    program = torch.onnx.export(
        network, (sample,), input_names=["x"], output_names=["y"], dynamo=True, verbose=False
    )
    assert program is not None
    program.save(str(path))


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
    try:
        return importlib.import_module(name)
    except ImportError as e:
        package = name.partition(".")[0]
        raise PeerUnavailable(f"{package} is not installed: pip install 'hil-lab[bench]'") from e
