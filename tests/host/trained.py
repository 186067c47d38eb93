"""The digits CNN after a few epochs, with its graph and plan; trained once per test process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from torch import nn

from host.compress.plan import PruningPlan
from host.data import Data, load_data
from host.graph import trace_with_plan
from host.train import SMALL, train
from host.types import Graph


@dataclass(frozen=True, eq=False)
class Subject:
    """What compression starts from."""

    network: nn.Module
    graph: Graph
    plan: PruningPlan
    data: Data


@cache
def digits_subject() -> Subject:
    data = load_data("digits")
    network = train("digits-cnn", data, training=replace(SMALL, epochs=6)).network
    graph, plan = trace_with_plan(network, "digits-cnn", data.input_shape, data.classes)
    return Subject(network, graph, plan, data)
