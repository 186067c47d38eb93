"""`hil-lab evaluate`: accuracy of the compiled integer program beside that of its network."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from hil_lab.commands.finalist import finalist_folder
from hil_lab.commands.verify import artifact_for
from hil_lab.console import Silent, print_json, print_table
from hil_lab.held import held
from hil_lab.runs import NETWORK, POLICY, open_run
from hil_lab.stages import Stages
from hil_lab.workbench import Workbench
from host.errors import DataError
from host.policy import Policy

MIN_AGREEMENT = 0.999
BATCH = 256


def run(arguments: argparse.Namespace) -> int:
    """Evaluate both on the same images; exit status 1 where they disagree on 1 in 1000 or more."""
    found = open_run(Path(arguments.run))
    folder = finalist_folder(found, arguments.at)
    bench = Workbench(found, Silent())
    images, labels = read_images(Path(arguments.data), bench.data.input_shape)
    inputs = bench.data.tensor(images)
    policy = Policy.from_dict(json.loads((folder / POLICY).read_text()))
    network = Stages(bench).of(policy).shaped(policy)
    network.load_state_dict(load_file(folder / NETWORK))
    with torch.inference_mode():
        parts = [network.eval()(x).argmax(1) for x in torch.split(inputs, BATCH)]
    expected = torch.cat(parts).numpy()
    with held(arguments.board, "evaluate", silent=arguments.json) as board:
        artifact = artifact_for(folder, None, board.info.arch)
        outputs = board.do(lambda session: session.infer(artifact, inputs.numpy()))
        where = f"compiled program on {board.info.name} ({artifact.manifest['arch']})"
    predicted = outputs.argmax(1)
    agreement = float((predicted == expected).mean())
    summary = {
        "images": len(labels),
        "program": {"where": where, "accuracy": float((predicted == labels).mean())},
        "network": {"accuracy": float((expected == labels).mean())},
        "agreement": agreement,
    }
    if arguments.json:
        print_json(summary)
    else:
        rows = [
            [where, f"{(predicted == labels).mean():.2%}"],
            ["torch network", f"{(expected == labels).mean():.2%}"],
            ["agreement", f"{agreement:.2%} of {len(labels)} images"],
        ]
        print_table(("", "accuracy"), rows)
    return 0 if agreement >= MIN_AGREEMENT else 1


def read_images(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Read x (uint8 NHWC) and y of an npz; raises DataError saying what is wrong."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["x"], arrays["y"]
    except (OSError, ValueError, KeyError) as e:
        raise DataError(f"{path} must be an npz with x (uint8 NHWC) and y: {e}") from e
    channels, height, width = shape
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
        raise DataError(
            f"{path}: x must be uint8 of shape (n, {height}, {width}, {channels}), "
            f"got {images.dtype} {images.shape}"
        )
    if labels.shape != (len(images),):
        raise DataError(f"{path}: y must hold one label per image")
    return images, labels
