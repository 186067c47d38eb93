"""Networks for 32x32 images: ResNets, VGGs, MobileNetV2, a ViT; never trained here."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from host.torchvision_shim import ensure_torchvision

# Convolutions per stage by depth (Simonyan and Zisserman 2015, table 1).
_VGG_STAGES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_VGG_CHANNELS = (64, 128, 256, 512, 512)


class PadShortcut(nn.Module):
    """He's option A: every second pixel, and zero channels on both sides."""

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + extra, H / 2, W / 2)."""
        before = self.extra_channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.extra_channels - before))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without parameters."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = (
            nn.Identity() if stride == 1 else PadShortcut(channels - in_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2: three stages of 16, 32 and 64 channels, depth 6 n + 2."""

    def __init__(self, depth: int, classes: int, in_channels: int = 3) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class CifarVGG(nn.Module):
    """VGG-16 or -19 with batch norm and one linear layer, as is usual for 32x32 images.

    With 19 layers and 10 classes it has the 20.04 M parameters of the papers on pruning.
    """

    def __init__(self, depth: int, classes: int, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = in_channels
        for stage, channels in zip(_VGG_STAGES[depth], _VGG_CHANNELS, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(stage):
                layers += [
                    nn.Conv2d(width, channels, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
                width = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def resnet18_cifar(classes: int, in_channels: int = 3) -> nn.Module:
    """Return timm's ResNet-18 with a 3x3 stride-1 stem and no max-pool."""
    ensure_torchvision()
    import timm

    network: nn.Module = timm.create_model("resnet18", num_classes=classes, in_chans=in_channels)
    network.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def mobilenetv2_cifar(classes: int, in_channels: int = 3) -> nn.Module:
    """Return timm's MobileNetV2 whose first two strides are 1, so that it ends at 4x4 pixels."""
    ensure_torchvision()
    import timm

    network = timm.create_model("mobilenetv2_100", num_classes=classes, in_chans=in_channels)
    network.conv_stem.stride = (1, 1)
    network.blocks[1][0].conv_dw.stride = (1, 1)
    made: nn.Module = network
    return made


def vit_cifar(classes: int, in_channels: int = 3) -> nn.Module:
    """Return a vision transformer of 9 blocks, 192 wide, on patches of 4x4 of 32x32 pixels."""
    ensure_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    network: nn.Module = VisionTransformer(
        img_size=32,
        patch_size=4,
        in_chans=in_channels,
        num_classes=classes,
        embed_dim=192,
        depth=9,
        num_heads=3,
    )
    return network


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
