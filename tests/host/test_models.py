"""Networks by name and their checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from host.data import load_data
from host.errors import CallerError, CheckpointError
from host.models import load_checkpoint, make_network, network_names
from tests.host.shared_data import SHARED, needs_shared_data

CIFAR = (3, 32, 32)


def own_network(classes: int) -> nn.Module:
    """A network of a user's own code."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def resnet8(classes: int = 10) -> nn.Module:
    return make_network("cifar-resnet8", classes=classes, input_shape=CIFAR)


@pytest.mark.parametrize("name", network_names())
def test_every_name_gives_a_classifier(name):
    shape = (1, 8, 8) if name.startswith("digits") else CIFAR
    network = make_network(name, classes=7, input_shape=shape)
    assert not network.training
    with torch.inference_mode():
        assert network(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", ["timm:mobilenetv2_100", "vit_tiny_patch16_224"])
def test_timm_networks_take_the_data_as_it_is(name):
    network = make_network(name, classes=5, input_shape=(3, 64, 64))
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_own_code_is_called_with_what_it_takes():
    network = make_network(f"{__name__}:own_network", classes=4, input_shape=(1, 8, 8))
    assert network[1].out_features == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18-cifar", 'did you mean "resnet18-cifar"'),
        ("no_such_package:f", "cannot be imported"),
        (f"{__name__}:no_such_function", "cannot be imported"),
    ],
)
def test_unknown_names_are_refused_with_a_hint(name, message):
    with pytest.raises(CallerError, match=message):
        make_network(name, classes=10, input_shape=CIFAR)


def test_weights_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    first, again = resnet8(), resnet8()
    other = make_network("cifar-resnet8", classes=10, input_shape=CIFAR, seed=1)
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_option_a_shortcut_exports():
    network, x = resnet8(), torch.randn(2, *CIFAR)
    exported = torch.export.export(network, (x,)).module()
    assert torch.allclose(exported(x), network(x), atol=1e-5)


class TestCheckpoints:
    def save(self, state: object, path: Path) -> Path:
        torch.save(state, path)
        return path

    @pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
    def test_wrapped_and_prefixed_weights_load(self, tmp_path, wrapper, prefix):
        source = make_network("cifar-resnet8", classes=10, input_shape=CIFAR, seed=3)
        state = {prefix + key: value for key, value in source.state_dict().items()}
        path = self.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pt")
        target = resnet8()
        load_checkpoint(target, path)
        assert torch.equal(target.linear.weight, source.linear.weight)

    def test_safetensors_load(self, tmp_path):
        source = make_network("cifar-resnet8", classes=10, input_shape=CIFAR, seed=3)
        save_file(source.state_dict(), tmp_path / "w.safetensors")
        target = resnet8()
        load_checkpoint(target, tmp_path / "w.safetensors")
        assert torch.equal(target.linear.weight, source.linear.weight)

    def test_missing_file_is_refused(self, tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            load_checkpoint(resnet8(), tmp_path / "none.pt")

    def test_class_count_mismatch_is_named(self, tmp_path):
        path = self.save(resnet8(100).state_dict(), tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match="has 100 classes, the network has 10"):
            load_checkpoint(resnet8(), path)

    def test_another_network_is_refused(self, tmp_path):
        path = self.save(resnet8().state_dict(), tmp_path / "w.pt")
        target = make_network("cifar-resnet20", classes=10, input_shape=CIFAR)
        with pytest.raises(CheckpointError, match="another network"):
            load_checkpoint(target, path)

    def test_a_pickled_module_is_never_run(self, tmp_path):
        path = self.save(resnet8(), tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match="weights-only"):
            load_checkpoint(resnet8(), path)

    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_garbage_is_refused(self, tmp_path, suffix):
        path = tmp_path / f"w{suffix}"
        path.write_bytes(b"not a checkpoint")
        with pytest.raises(CheckpointError):
            load_checkpoint(resnet8(), path)


@needs_shared_data
def test_published_resnet20_weights_reach_their_accuracy(tmp_path):
    import numpy as np
    from PIL import Image

    from host.compress.finetune import accuracy

    labels = np.load(SHARED / "cifar10" / "labels.npz")
    strips = [
        np.asarray(Image.open(SHARED / "cifar10" / f"test_00{i}.webp").convert("RGB"))
        for i in range(2)
    ]
    x = np.concatenate(strips).reshape(-1, 32, 32, 3)
    y = labels["y_test"][: len(x)]
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=range(10))
    data = load_data("npz", tmp_path / "c.npz")
    network = make_network("cifar-resnet20", classes=10, input_shape=CIFAR)
    load_checkpoint(network, SHARED / "weights" / "resnet20-12fca82f.th")
    correct, total = accuracy(network, "test", data)
    assert total == 1000
    assert correct / total == pytest.approx(0.919, abs=0.02)
