"""Networks by name: built-in, any timm classifier, own code; never downloads weights."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import torch
from torch import nn

from host.errors import CallerError
from host.models.cifar import (
    CifarResNet,
    CifarVGG,
    mobilenetv2_cifar,
    resnet18_cifar,
    vit_cifar,
)
from host.models.digits import DigitsCNN, DigitsViT
from host.registry import Registry, did_you_mean
from host.torchvision_shim import ensure_torchvision

Shape = tuple[int, int, int]
Factory = Callable[[int, Shape], nn.Module]

NETWORKS: Registry[Factory] = Registry("network")


def _register_cifar_resnet(depth: int) -> None:
    def make(classes: int, shape: Shape) -> nn.Module:
        return CifarResNet(depth, classes, shape[0])

    NETWORKS.register(f"cifar-resnet{depth}")(make)
    NETWORKS.register(f"resnet{depth}-cifar")(make)


for _depth in (8, 20, 32, 44, 56):
    _register_cifar_resnet(_depth)


@NETWORKS.register("resnet18-cifar")
def _resnet18(classes: int, shape: Shape) -> nn.Module:
    return resnet18_cifar(classes, shape[0])


@NETWORKS.register("vgg16-cifar")
def _vgg16(classes: int, shape: Shape) -> nn.Module:
    return CifarVGG(16, classes, shape[0])


@NETWORKS.register("vgg19-cifar")
def _vgg19(classes: int, shape: Shape) -> nn.Module:
    return CifarVGG(19, classes, shape[0])


@NETWORKS.register("mobilenetv2-cifar")
def _mobilenetv2(classes: int, shape: Shape) -> nn.Module:
    return mobilenetv2_cifar(classes, shape[0])


@NETWORKS.register("vit-cifar")
def _vit(classes: int, shape: Shape) -> nn.Module:
    return vit_cifar(classes, shape[0])


@NETWORKS.register("digits-cnn")
def _digits_cnn(classes: int, shape: Shape) -> nn.Module:
    return DigitsCNN(classes, shape)


@NETWORKS.register("digits-vit")
def _digits_vit(classes: int, shape: Shape) -> nn.Module:
    return DigitsViT(classes, shape)


def network_names() -> tuple[str, ...]:
    """Return the built-in names (any timm name and `package.module:function` work besides)."""
    return tuple(NETWORKS)


def default_shape(name: str) -> tuple[Shape, int]:
    """Return the pictures and the classes that a network by name was made for.

    Raises CallerError for a network of one's own, which says neither, and for an unknown one.
    """
    if name in NETWORKS:
        return ((1, 8, 8) if name.startswith("digits") else (3, 32, 32)), 10
    if ":" in name and not name.startswith("timm:"):
        raise CallerError(f'"{name}" does not say its input: export it with torch.export.save')
    ensure_torchvision()
    import timm

    bare = name.removeprefix("timm:")
    if not timm.is_model(bare):
        raise CallerError(f'unknown network "{name}"{_hint(name, _known())}')
    config = timm.get_pretrained_cfg(bare)
    if config is None:
        return (3, 224, 224), 1000
    channels, height, width = config.input_size
    return (channels, height, width), config.num_classes or 1000


def _known() -> tuple[str, ...]:
    import timm

    return (*network_names(), *timm.list_models())


def make_network(name: str, *, classes: int, input_shape: Shape, seed: int = 0) -> nn.Module:
    """Build a network in evaluation mode with random weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        if name in NETWORKS:
            network = NETWORKS[name](classes, input_shape)
        elif ":" in name and not name.startswith("timm:"):
            network = _own_network(name, classes, input_shape)
        else:
            network = _timm_network(name.removeprefix("timm:"), classes, input_shape)
        return network.eval()


def _timm_network(name: str, classes: int, shape: Shape) -> nn.Module:
    ensure_torchvision()
    import timm

    if not timm.is_model(name):
        raise CallerError(f'unknown network "{name}"{_hint(name, _known())}')
    config = timm.get_pretrained_cfg(name)
    size = {"img_size": shape[1:]} if config and config.fixed_input_size else {}
    network: nn.Module = timm.create_model(name, num_classes=classes, in_chans=shape[0], **size)
    return network


def _hint(name: str, known: tuple[str, ...]) -> str:
    close = did_you_mean(name, known)
    return close if "did you mean" in close else did_you_mean(name, network_names())


def _own_network(name: str, classes: int, shape: Shape) -> nn.Module:
    """Call `package.module:function` with those of `classes` and `input_shape` that it takes."""
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as e:
        raise CallerError(f'network "{name}" cannot be imported: {e}') from e
    offered = {"classes": classes, "input_shape": shape}
    taken = inspect.signature(function).parameters
    try:
        network = function(**{key: value for key, value in offered.items() if key in taken})
    except TypeError as e:
        raise CallerError(
            f'"{name}" must be callable with classes and input_shape or less: {e}'
        ) from e
    if not isinstance(network, nn.Module):
        raise CallerError(f'"{name}" returned {type(network).__name__}, not a torch module')
    with torch.inference_mode():
        made = tuple(network.eval()(torch.zeros(1, *shape)).shape)
    if made != (1, classes):
        raise CallerError(
            f'"{name}" maps {shape} to {made[1:]}, but the data has {classes} classes'
        )
    return network
