"""The paper's networks for images and tables, with a share of their width for small runs.

The paper probes them behind some of their layers; those stand in :data:`LAYERS`.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

__all__ = ["LAYERS", "build", "mlp", "resnet", "vgg11"]

LAYERS = {
    "mlp7": ["layer3", "layer5", "layer7"],
    "vgg11": ["conv1_1", "conv3_2", "conv5_2", "fc2"],
    "resnet20": ["block1", "block3", "block5", "block7", "block9", "pool"],
    "resnet32": ["block1", "block4", "block7", "block10", "block13", "pool"],
}


def build(name: str, shape: torch.Size, classes: int, width: float, seed: int) -> nn.Module:
    """Make a network with random weights; torch's own random state is left as it was.

    Args:
        name: A name in :data:`LAYERS`.
        shape: Of an input, ``[C, H, W]`` or ``[F]``.
        classes: The number of classes.
        width: The share of the full width.
        seed: The seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "mlp7":
            return mlp(shape.numel(), max(16, int(1024 * width)), classes).eval()
        if name == "vgg11":
            return vgg11(shape[0], classes, width, padding=(32 - shape[-1]) // 2).eval()
        return resnet({"resnet20": 3, "resnet32": 5}[name], shape[0], classes, max(4, int(16 * width))).eval()


def mlp(inputs: int, width: int, classes: int, depth: int = 7) -> nn.Module:
    """Make a perceptron of seven hidden layers."""
    sizes = [inputs] + [width] * depth
    hidden = [(f"layer{i + 1}", nn.Sequential(nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU())) for i in range(depth)]
    return nn.Sequential(OrderedDict([("flat", nn.Flatten()), *hidden, ("head", nn.Linear(width, classes))]))


def vgg11(channels: int, classes: int, width: float, padding: int) -> nn.Module:
    """Make VGG-11 (Simonyan and Zisserman, 2015) with batch normalisation; images are padded to 32 x 32."""
    plan = [("conv1_1", 64), "", ("conv2_1", 128), "", ("conv3_1", 256), ("conv3_2", 256), "",
            ("conv4_1", 512), ("conv4_2", 512), "", ("conv5_1", 512), ("conv5_2", 512), ""]  # fmt: skip
    parts: list[tuple[str, nn.Module]] = [("pad", nn.ZeroPad2d(padding))]
    last = channels
    for place, entry in enumerate(plan):
        if not entry:
            parts.append((f"pool{place}", nn.MaxPool2d(2)))
            continue
        name, full = entry
        own = max(8, int(full * width))
        conv = nn.Conv2d(last, own, 3, padding=1, bias=False)
        parts.append((name, nn.Sequential(conv, nn.BatchNorm2d(own), nn.ReLU())))
        last = own
    wide = max(32, int(4096 * width))
    parts.append(("flat", nn.Flatten()))
    parts += [("fc1", nn.Sequential(nn.Linear(last, wide), nn.ReLU()))]
    parts += [("fc2", nn.Sequential(nn.Linear(wide, wide), nn.ReLU())), ("fc3", nn.Linear(wide, classes))]
    return nn.Sequential(OrderedDict(parts))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + nn.functional.pad(short, (0, 0, 0, 0, 0, self.added)))


def resnet(blocks: int, channels: int, classes: int, width: int) -> nn.Module:
    """Make the ResNet of 6 blocks + 2 layers for small images (He et al., 2016), with shortcuts without weights."""
    stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    parts: list[tuple[str, nn.Module]] = [("stem", stem)]
    last = width
    for place in range(3 * blocks):
        own, first = width << (place // blocks), place % blocks == 0
        parts.append((f"block{place + 1}", _Block(last, own, 2 if first and place else 1)))
        last = own
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(OrderedDict([*parts, ("pool", pool), ("head", nn.Linear(last, classes))]))
