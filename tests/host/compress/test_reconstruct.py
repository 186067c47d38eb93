"""Solved weights answer more like the uncompressed network's; what is not compressed stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from host.compress import reconstruct
from host.compress.candidate import compress, shaped
from host.compress.reconstruct import System, flat, teacher, unknowns
from host.data import load_data
from host.graph import trace_with_plan
from host.lower.targets import refusal
from host.models import make_network
from host.policy import Choice, Policy, Space, uncompressed

MODELS = ("digits-cnn", "digits-vit")
FORMATS = {
    "pruned": (Choice(None), 0.5),
    "int8": (Choice(None, "int8", 8, 8), 0.25),
    "three bits": (Choice(None, "mix", 3, 3), 0.0),
    "one bit": (Choice(None, "mix", 1, 2), 0.0),
}


@pytest.fixture(scope="module", params=MODELS)
def bench(request: pytest.FixtureRequest) -> Any:
    data = load_data("digits")
    network = make_network(request.param, classes=10, input_shape=data.input_shape, seed=0).eval()
    graph, plan = trace_with_plan(network, request.param, data.input_shape, 10)
    layers = [layer.name for layer in graph.layers]
    known = teacher(network, layers, data.calibration(128))
    return network, graph, plan, data, known


def _policy(space: Space, form: Choice, sparsity: float) -> Policy:
    wishes = {
        x.name: Choice(space.keep_for(x, sparsity), form.mode, form.weight_bits, form.act_bits)
        for x in space.graph.layers
    }
    return space.policy(wishes)


def _answers(network: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        answers: Tensor = network(x)
    return answers


@pytest.mark.parametrize("name", FORMATS)
def test_it_answers_more_like_the_uncompressed_network(bench: Any, name: str) -> None:
    network, graph, plan, data, known = bench
    policy = _policy(Space(graph, refusal), *FORMATS[name])
    x = data.tensor(data.validation.images)
    truth = _answers(network, x)
    plain = _answers(compress(network, policy, plan, data), x)
    solved = _answers(compress(network, policy, plan, data, known=known), x)
    assert (solved - truth).square().mean() < (plain - truth).square().mean()


def test_what_is_not_compressed_stays_to_the_bit(bench: Any) -> None:
    network, graph, plan, data, known = bench
    same = compress(network, uncompressed(graph), plan, data, known=known)
    for name, tensor in network.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name


def test_layers_before_the_first_change_stay_to_the_bit(bench: Any) -> None:
    network, graph, plan, data, known = bench
    last = graph.layers[-1].name
    policy = Space(graph, refusal).policy({last: Choice(None, "int8", 8, 8)})
    made = compress(network, policy, plan, data, known=known)
    for layer in graph.layers[:-1]:
        before, after = (m.get_submodule(layer.name).weight for m in (network, made))
        assert torch.equal(before, after), layer.name


def test_the_same_policy_gives_the_same_weights(bench: Any) -> None:
    network, graph, plan, data, known = bench
    policy = _policy(Space(graph, refusal), *FORMATS["three bits"])
    first, second = (compress(network, policy, plan, data, known=known) for _ in range(2))
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def test_rounded_weights_are_codes_times_scale(bench: Any) -> None:
    network, graph, plan, data, known = bench
    policy = _policy(Space(graph, refusal), *FORMATS["three bits"])
    made = compress(network, policy, plan, data, known=known)
    layer = next(p.layer for p in policy.layers if p.mode == "mix")
    module = made.get_submodule(layer)
    scale = module.weight_scale().view(-1, *[1] * (module.weight.ndim - 1))
    assert torch.allclose(module.weight_codes() * scale, module.weight, atol=1e-6)


def test_a_layer_that_was_too_large_is_solved_once_channels_are_gone(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, graph, plan, data, _ = bench
    space = Space(graph, refusal)
    driver = graph.drivers[-1]
    reader = next(x.name for x in graph.layers if [s.group for s in x.sources] == [driver.name])
    limit = unknowns(network.get_submodule(reader)) - 1
    monkeypatch.setattr(reconstruct, "MOST_UNKNOWNS", limit)
    known = teacher(network, [layer.name for layer in graph.layers], data.calibration(128))
    first = {graph.layers[0].name: Choice(None, "int8", 8, 8)}  # all that follows is disturbed
    halved = {driver.name: Choice(driver.out_channels // 2)}
    for choices, solved in ((first, False), (first | halved, True)):
        policy = space.policy(choices)
        old = shaped(network, policy, plan).get_submodule(reader).weight
        new = compress(network, policy, plan, data, known=known).get_submodule(reader).weight
        assert torch.equal(old, new) is not solved


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0])
def test_correlated_inputs_have_a_factor(spread: float) -> None:
    """The inverse of their gram matrix, made in single precision, is not always positive."""
    generator = torch.Generator().manual_seed(0)
    common = torch.rand(4096, 1, generator=generator)
    x = common + spread * torch.randn(4096, 512, generator=generator)
    gram = (x.mT @ x / len(x)).double()[None]
    gram += reconstruct.DAMPING * gram.diagonal(dim1=1, dim2=2).mean() * torch.eye(512)
    factor = reconstruct._factor(gram)
    assert torch.equal(factor, factor.triu())
    assert torch.allclose(factor.mT @ factor @ gram, torch.eye(512).double(), atol=1e-6)


@given(
    groups=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_a_system_is_of_what_the_convolution_reads(
    groups: int, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> None:
    form: Any = dict(stride=stride, padding=padding, dilation=dilation)
    conv = nn.Conv2d(2 * groups, 4 * groups, kernel, groups=groups, bias=False, **form)
    x = torch.randn(3, 2 * groups, 7, 6, generator=torch.Generator().manual_seed(0))
    patches = F.unfold(x, kernel, dilation, padding, stride).transpose(1, 2).flatten(0, 1)
    rows = torch.randperm(len(patches), generator=torch.Generator().manual_seed(1))[:5]
    read = patches[rows].reshape(len(rows), groups, -1).transpose(0, 1)
    wanted = flat(conv(x)).detach()[rows]
    found = System.of(conv, x, wanted, rows)
    torch.testing.assert_close(found.gram, read.mT @ read / len(rows))
    assert found.loss(conv.weight) == pytest.approx(0, abs=1e-4)
