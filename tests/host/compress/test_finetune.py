"""Training: counts per image, the same seed the same weights, and two bits that learn again."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from host.compress import compress
from host.compress.finetune import Progress, Training, accuracy, finetune, reestimate_batch_norm
from host.errors import CallerError
from host.policy import Choice
from tests.host.networks import space_of

SHORT = Training(steps=5, batch_size=64, lr=0.01)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_bit_network(digits) -> nn.Module:
    choices = {layer.name: Choice(48, "mix", 2, 2) for layer in digits.graph.layers}
    policy = space_of(digits.graph).policy(choices)
    return compress(digits.network, policy, digits.plan, digits.data)


def _distance(network: nn.Module, teacher: nn.Module, x: torch.Tensor) -> float:
    """Mean squared difference of the answers."""
    with torch.inference_mode():
        return float((network.eval()(x) - teacher.eval()(x)).square().mean())


class TestAccuracy:
    def test_every_image_counts_once(self, digits):
        split = digits.data.validation
        with torch.inference_mode():
            guesses = digits.network(digits.data.tensor(split.images)).argmax(1).numpy()
        expected = (int((guesses == split.labels).sum()), len(split))
        for batch_size in (7, 256):
            assert accuracy(digits.network, "validation", digits.data, batch_size=batch_size) == (
                expected
            )

    def test_a_limit_takes_the_first_images(self, digits):
        assert accuracy(digits.network, "test", digits.data, limit=50)[1] == 50

    def test_the_mode_of_the_network_is_kept(self, digits):
        network = copy.deepcopy(digits.network).train()
        accuracy(network, "test", digits.data, limit=10)
        assert network.training


class TestFinetune:
    def test_two_bits_learn_again(self, digits):
        network = two_bit_network(digits)
        before, total = accuracy(network, "validation", digits.data)
        finetune(network, digits.data, replace(SHORT, steps=60), generator=seeded())
        after, _ = accuracy(network, "validation", digits.data)
        assert after > before
        assert after > 0.9 * total

    def test_the_same_seed_gives_the_same_weights(self, digits):
        states = []
        for seed in (0, 0, 1):
            network = two_bit_network(digits)
            finetune(network, digits.data, SHORT, generator=seeded(seed))
            states.append(network.state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])

    def test_the_global_generator_is_left_alone(self, digits):
        state = torch.random.get_rng_state()
        finetune(two_bit_network(digits), digits.data, SHORT, generator=seeded())
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_a_teacher_alone_is_learned_from(self, digits):
        """All of the loss distilled, labels do not matter, and answers become the teacher's."""
        train = digits.data.train
        mixed = replace(digits.data, train=replace(train, labels=train.labels[::-1].copy()))
        x = digits.data.tensor(digits.data.validation.images)
        distilling = replace(SHORT, steps=80, distillation=1.0, augment=False)
        teacher = copy.deepcopy(digits.network).train()
        states, apart = [], []
        for data in (digits.data, mixed):
            network = two_bit_network(digits)
            apart.append(_distance(network, digits.network, x))
            finetune(network, data, distilling, generator=seeded(), teacher=teacher)
            apart.append(_distance(network, digits.network, x))
            states.append(network.state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert apart[1] < 0.5 * apart[0]
        assert teacher.training
        kept = digits.network.state_dict()
        assert all(torch.equal(kept[key], t) for key, t in teacher.state_dict().items())

    def test_distillation_is_a_share_and_needs_a_teacher(self, digits):
        with pytest.raises(CallerError, match=r"distillation must lie in \[0, 1\], got 1.5"):
            Training(distillation=1.5)
        with pytest.raises(CallerError, match="needs a teacher"):
            training = replace(SHORT, distillation=0.5)
            finetune(two_bit_network(digits), digits.data, training, generator=seeded())

    def test_half_multiplies_in_bfloat16_and_keeps_weights_whole(self, digits):
        seen: set[torch.dtype] = set()

        def look(layer: nn.Module, inputs: object, answers: torch.Tensor) -> None:
            if layer.training:
                seen.add(answers.dtype)

        kept = []
        for half in (False, None, True):
            network = copy.deepcopy(digits.network)
            network.get_submodule(digits.graph.layers[0].name).register_forward_hook(look)
            finetune(
                network, digits.data, replace(SHORT, half=half, device="cpu"), generator=seeded()
            )
            assert seen == {torch.bfloat16 if half else torch.float32}
            seen.clear()
            kept.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        start = torch.cat([p.detach().flatten() for p in digits.network.parameters()])
        whole, unasked, halves = (weights - start for weights in kept)
        assert torch.equal(unasked, whole)
        assert halves.dtype == torch.float32
        assert 0 < float((halves - whole).norm()) < 0.1 * float(whole.norm())

    def test_a_teacher_is_asked_in_bfloat16_too(self, digits):
        seen: set[torch.dtype] = set()
        teacher = copy.deepcopy(digits.network)
        first = teacher.get_submodule(digits.graph.layers[0].name)
        first.register_forward_hook(lambda layer, inputs, answers: seen.add(answers.dtype))
        training = replace(SHORT, half=True, distillation=0.5)
        network = copy.deepcopy(digits.network)
        finetune(network, digits.data, training, generator=seeded(), teacher=teacher)
        assert seen == {torch.bfloat16}

    def test_the_best_epoch_stays_and_none_where_the_network_was_better(self, digits):
        rough = replace(SHORT, steps=None, epochs=2, lr=10.0, keep_best=True)
        network = copy.deepcopy(digits.network)
        before = accuracy(network, "validation", digits.data)
        best = finetune(network, digits.data, rough, generator=seeded())
        assert best == before[0] / before[1]
        kept = digits.network.state_dict()
        assert all(torch.equal(kept[key], t) for key, t in network.state_dict().items())

    def test_progress_is_told_at_every_step(self, digits):
        told: list[Progress] = []
        # Its last layer knows nothing yet, so that an epoch is better than none on any machine.
        network = copy.deepcopy(digits.network)
        last = network.get_submodule(digits.graph.layers[-1].name)
        nn.init.zeros_(last.weight)
        training = replace(SHORT, steps=None, epochs=1, keep_best=True)
        best = finetune(network, digits.data, training, generator=seeded(), on_progress=told.append)
        assert [p.step for p in told] == list(range(1, 18))
        assert told[-1].steps == 17
        assert told[-1].validation == best
        assert not network.training

    @pytest.mark.parametrize(
        ("training", "first", "last"),
        [
            (Training(lr=1.0, schedule="constant"), 1.0, 1.0),
            (Training(lr=1.0, schedule="cosine"), 1.0, 0.0),
            (Training(lr=1.0, schedule="cosine", warmup=0.2), 1 / 21, 0.0),
        ],
    )
    def test_learning_rates_follow_the_schedule(self, training, first, last):
        assert training.rate(0, 100) == pytest.approx(first)
        assert training.rate(99, 100) == pytest.approx(last, abs=1e-3)


def test_batch_norm_statistics_become_those_of_the_batches():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()).train()
    x = torch.randn(64, 2, 4, 4, generator=seeded()) * 3 + 1
    reestimate_batch_norm(network, [x, x])
    assert torch.allclose(network[0].running_mean, x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(network[0].running_var, x.var((0, 2, 3)), rtol=1e-3)
    assert network.training
    assert network[0].momentum == 0.1

    def test_a_gpu_that_is_not_there_is_named(self, digits):
        if torch.cuda.is_available():
            assert replace(SHORT, device="cuda").place().type == "cuda"
            return
        assert SHORT.place() == torch.device("cpu")
        with pytest.raises(CallerError, match='no GPU here; leave device "auto"'):
            finetune(
                two_bit_network(digits),
                digits.data,
                replace(SHORT, device="cuda"),
                generator=seeded(),
            )

    def test_smoothing_momentum_and_cutout_change_what_is_learned(self, digits):
        weights = []
        for extra in ({}, {"nesterov": True}, {"label_smoothing": 0.1}, {"cutout_px": 3}):
            network = copy.deepcopy(digits.network)
            finetune(network, digits.data, replace(SHORT, **extra), generator=seeded())
            weights.append(network.state_dict()["fc.weight"])
        assert all(not torch.equal(weights[0], other) for other in weights[1:])
