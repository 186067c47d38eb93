"""Codes and policies are the same thing, and arrays count channels as the graph does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.encoding import Encoding, join
from host.graph import trace_unpruned
from host.lower.targets import refusal
from host.models import make_network
from host.policy import Space

MODELS = {"cifar-resnet8": (3, 32, 32), "digits-vit": (1, 8, 8), "digits-cnn": (1, 8, 8)}


def encoding(model: str) -> Encoding:
    shape = MODELS[model]
    network = make_network(model, classes=10, input_shape=shape, seed=0)
    return Encoding(Space(trace_unpruned(network, model, shape, 10), refusal))


ENCODINGS = {model: encoding(model) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
@given(seed=st.integers(0, 2**31))
def test_policies_and_codes_are_the_same_thing(model: str, seed: int) -> None:
    made = ENCODINGS[model]
    batch = made.random(3, np.random.default_rng(seed))
    policies = [made.policy(batch, row) for row in range(len(batch))]
    for policy in policies:
        made.space.check(policy)
    assert made.batch(policies).keys() == batch.keys()


@pytest.mark.parametrize("model", MODELS)
@given(seed=st.integers(0, 2**31))
def test_channels_are_the_graphs(model: str, seed: int) -> None:
    made = ENCODINGS[model]
    batch = made.random(2, np.random.default_rng(seed))
    inside, outside = made.channels(batch)
    for row in range(len(batch)):
        policy = made.policy(batch, row)
        keeps = policy.keeps(made.graph)
        assert [made.graph.in_channels(x, keeps) for x in made.layers] == inside[row].tolist()
        assert [p.keep for p in policy.layers] == outside[row].tolist()


def test_joining_keeps_the_order() -> None:
    made = ENCODINGS["digits-cnn"]
    parts = [made.random(2, np.random.default_rng(seed)) for seed in (1, 2)]
    assert join(parts).keys() == parts[0].keys() + parts[1].keys()


def test_no_batch_is_a_batch_of_none() -> None:
    made = ENCODINGS["digits-cnn"]
    assert made.batch([]).keys() == []
