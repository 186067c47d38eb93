"""Our own programs in this process, loaded as the agent does, and their threads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import tvm
from torch import nn

from device_agent.program import Program
from device_agent.values import Job
from host.lower.build import Builder
from host.policy import Policy

MOST_THREADS = "TVM_NUM_THREADS"
BIG_CORES = 1  # a mode of the runtime's pool


def loaded(
    builder: Builder, network: nn.Module, policy: Policy, image: np.ndarray | None
) -> Program:
    """Build a program and load it; without an image its weights are made up."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        artifact = builder.build(network, policy, root, sample=image)
        return Program(Job(artifact.manifest, root / "blobs", synthetic=image is None))


def reserve_threads(most: int) -> None:
    """Say how many threads the runtime's pool may ever have, before it runs for the first time.

    It would take half of the cores, as if each had two threads. A program needs no other build for
    another number of threads.
    """
    os.environ[MOST_THREADS] = str(most)


def use_threads(threads: int) -> None:
    """Give the runtime's pool so many threads, of which the caller is one."""
    cores = os.sched_getaffinity(0)
    tvm.get_global_func("runtime.config_threadpool")(BIG_CORES, threads)
    # That ties this thread to one core, and with it the threads that other runtimes start later.
    os.sched_setaffinity(0, cores)
