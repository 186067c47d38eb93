"""Quantized layers: exact integers, gradients to every master weight, ranges of least error."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from host.compress.quantize import (
    QuantConv2d,
    QuantLinear,
    calibrate,
    quant_layers,
    quantize,
    quantized,
)
from host.compress.ranges import (
    best_clip_ratio,
    best_range,
    thinned,
    weight_codes,
    weight_scales,
)
from host.errors import UnsupportedLayer
from host.graph import trace
from host.models import make_network
from host.policy import Choice
from tests.host.networks import random_policy, space_of

bits = st.sampled_from([1, 2, 3, 4, 5, 6, 8])


def conv(weight_bits: int, act_bits: int, seed: int = 0, **changed: int) -> QuantConv2d:
    torch.manual_seed(seed)
    sizes = {"in_channels": 6, "out_channels": 5, "kernel_size": 3, "padding": 1, **changed}
    return quantized(nn.Conv2d(**sizes).eval(), weight_bits, act_bits)


def signed_input(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 0.5


class TestIntegers:
    @settings(max_examples=40, deadline=None)
    @given(weight_bits=bits, act_bits=bits, seed=st.integers(0, 99), relu=st.booleans())
    def test_the_output_is_an_exact_integer_sum_times_a_scale(
        self, weight_bits, act_bits, seed, relu
    ):
        layer, x = conv(weight_bits, act_bits, seed, stride=2), signed_input(seed, (2, 6, 8, 8))
        x = x.relu() if relu else x
        calibrate(layer, [x])
        sums = layer.accumulate(x)
        codes = layer.input_codes(x).double() - layer.act_zero
        by_hand = F.conv2d(codes, layer.weight_codes().double(), None, 2, 1)
        assert torch.equal(sums.double(), by_hand)
        scale = (layer.weight_scale() * layer.act_scale).view(-1, 1, 1)
        with torch.no_grad():
            assert torch.equal(layer(x), sums.float() * scale + layer.bias.view(-1, 1, 1))

    @settings(max_examples=40, deadline=None)
    @given(act_bits=bits, seed=st.integers(0, 99))
    def test_input_codes_are_one_float32_multiplication(self, act_bits, seed):
        layer, x = conv(4, act_bits, seed), signed_input(seed, (2, 6, 8, 8))
        calibrate(layer, [x])
        inverse = np.float32(1) / np.float32(layer.act_scale)
        assert inverse == layer.act_inverse
        scaled = np.rint(x.numpy() * inverse) + layer.act_zero
        expected = np.clip(scaled, 0, 2**act_bits - 1).astype(np.uint8)
        assert np.array_equal(layer.input_codes(x).numpy(), expected)
        assert 0 <= layer.act_zero <= layer.act_levels

    @settings(max_examples=30, deadline=None)
    @given(weight_bits=bits, seed=st.integers(0, 99))
    def test_weight_codes_are_symmetric(self, weight_bits, seed):
        layer = conv(weight_bits, 8, seed)
        codes = layer.weight_codes()
        assert codes.dtype == torch.int8
        limit = max(2 ** (weight_bits - 1) - 1, 1)
        assert int(codes.abs().max()) <= limit
        if weight_bits == 1:
            assert set(codes.unique().tolist()) <= {-1, 1}

    @pytest.mark.parametrize("channels", [512, 2000])
    def test_sums_beyond_float32_stay_exact(self, channels):
        """512 channels go by halves, 2000 in float64."""
        source = nn.Conv2d(channels, 2, 3, padding=1, bias=False).eval()
        with torch.no_grad():
            source.weight.uniform_(0.5, 1.0)
        layer = quantized(source, 8, 8)
        x = torch.rand(1, channels, 4, 4)
        calibrate(layer, [x])
        assert int(layer.accumulate(x).max()) > 2**24
        scale = (layer.weight_scale() * layer.act_scale).view(-1, 1, 1)
        with torch.no_grad():
            assert torch.equal(layer(x), layer.accumulate(x).float() * scale)

    def test_linear_layers_take_tokens(self):
        layer = quantized(nn.Linear(16, 4).eval(), 3, 5)
        assert isinstance(layer, QuantLinear)
        x = signed_input(0, (2, 7, 16))
        calibrate(layer, [x])
        scale = layer.weight_scale() * layer.act_scale
        with torch.no_grad():
            assert torch.equal(layer(x), layer.accumulate(x).float() * scale + layer.bias)

    def test_eight_bits_stay_close_to_the_float_layer(self):
        source, x = nn.Conv2d(16, 8, 3).eval(), signed_input(0, (4, 16, 8, 8))
        layer = quantized(copy.deepcopy(source), 8, 8)
        calibrate(layer, [x])
        with torch.no_grad():
            expected = source(x)
            assert float((layer(x) - expected).std()) < 0.02 * float(expected.std())

    def test_an_input_of_zeros_gives_the_bias(self):
        layer, x = conv(2, 2), torch.zeros(1, 6, 4, 4)
        calibrate(layer, [x])
        with torch.no_grad():
            assert torch.equal(layer(x)[0, :, 0, 0], layer.bias)


class TestTraining:
    @settings(max_examples=10, deadline=None)
    @given(weight_bits=bits, act_bits=bits, seed=st.integers(0, 99))
    def test_training_computes_what_evaluation_computes(self, weight_bits, act_bits, seed):
        layer, x = conv(weight_bits, act_bits, seed), signed_input(seed, (2, 6, 8, 8))
        calibrate(layer, [x])
        with torch.no_grad():
            evaluated = layer(x)
        assert torch.equal(layer.train()(x.requires_grad_()), evaluated)

    def test_every_master_weight_gets_a_gradient_and_moves(self):
        network = make_network("digits-cnn", classes=10, input_shape=(1, 8, 8))
        formats = [("fp32", 32, 32), ("int8", 8, 8), ("mix", 4, 4), ("mix", 1, 3), ("mix", 2, 6)]
        graph = trace(network, "digits-cnn", (1, 8, 8), 10)
        choices = {
            layer.name: Choice(None, *formats[i % len(formats)])
            for i, layer in enumerate(graph.layers)
        }
        quantize(network, space_of(graph).policy(choices))
        assert len(quant_layers(network)) == 4
        x = signed_input(0, (64, 1, 8, 8))
        calibrate(network, [x])
        before = copy.deepcopy(network.state_dict())
        network.train()
        F.cross_entropy(network(x), torch.arange(64) % 10).backward()
        torch.optim.SGD(network.parameters(), 0.1).step()
        for layer in graph.layers:
            weight = network.get_submodule(layer.name).weight
            assert isinstance(weight, nn.Parameter)
            assert bool((weight.grad != 0).all()), layer.name
            assert bool((weight != before[f"{layer.name}.weight"]).all()), layer.name

    def test_clipped_inputs_get_no_gradient(self):
        layer = conv(8, 4)
        calibrate(layer, [torch.rand(8, 6, 8, 8)])
        x = torch.full((1, 6, 4, 4), 0.4)
        x[0, 0], x[0, 1] = 100.0, -100.0
        layer.train()(x.requires_grad_()).square().sum().backward()
        assert bool((x.grad[0, :2] == 0).all())
        assert bool((x.grad[0, 2:] != 0).all())

    def test_the_gradient_is_that_of_the_float_layer(self):
        source, x = nn.Linear(16, 4), signed_input(0, (32, 16))
        reference = copy.deepcopy(source)
        layer = quantized(source, 8, 8)
        calibrate(layer, [x])
        layer(x).square().sum().backward()
        reference(x).square().sum().backward()
        assert torch.allclose(layer.weight.grad, reference.weight.grad, rtol=0.05, atol=0.5)


class TestRanges:
    @pytest.mark.parametrize("few", [2, 3, 4])
    def test_a_searched_clip_loses_less_than_the_maximum(self, few):
        weight = signed_input(0, (8, 500))

        def error(ratio: torch.Tensor) -> float:
            scale = weight_scales(weight, few, ratio)
            return float((weight_codes(weight, few, scale) * scale[:, None] - weight).norm())

        assert error(best_clip_ratio(weight, few)) < 0.95 * error(torch.ones(8))

    @settings(max_examples=30, deadline=None)
    @given(few=st.integers(1, 8), shift=st.floats(-3, 3), seed=st.integers(0, 99))
    def test_a_range_holds_zero_and_stays_inside_the_extremes(self, few, shift, seed):
        samples = signed_input(seed, (500,)) + shift
        low, high = best_range(samples, float(samples.min()), float(samples.max()), few)
        assert min(float(samples.min()), 0.0) <= low <= 0.0 <= high
        assert high <= max(float(samples.max()), 0.0)

    def test_several_batches_widen_the_range(self):
        layer = conv(8, 8)
        calibrate(layer, [torch.rand(2, 6, 8, 8), 3 + torch.rand(2, 6, 8, 8)])
        assert float(layer.act_high) > 3


class TestReplacing:
    def test_only_the_layers_of_the_policy_change(self):
        network = make_network("cifar-resnet8", classes=10, input_shape=(3, 32, 32))
        graph = trace(network, "r8", (3, 32, 32), 10)
        policy = random_policy(graph, 0, ("fp32", "int8", "mix"))
        quantize(network, policy)
        expected = {p.layer: (p.weight_bits, p.act_bits) for p in policy.layers if p.mode != "fp32"}
        found = {n: (m.weight_bits, m.act_bits) for n, m in quant_layers(network).items()}
        assert found == expected

    def test_replacing_draws_no_random_numbers(self):
        layer, state = nn.Conv2d(3, 4, 3), torch.random.get_rng_state()
        assert quantized(layer, 8, 8).weight is layer.weight
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_a_layer_of_another_kind_is_refused(self):
        with pytest.raises(UnsupportedLayer, match="ConvTranspose2d"):
            quantized(nn.ConvTranspose2d(3, 3, 3), 8, 8)


def test_samples_do_not_depend_on_how_images_are_stored():
    x = signed_input(0, (5, 7, 40, 40))
    apart, together = thinned(x), thinned(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(apart, together)
    assert len(apart) < x.numel()
    assert {float(x.min()), float(x.max())} <= set(apart.tolist())
