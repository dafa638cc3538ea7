"""A plain ST-GCN: what ``hhmnet bench`` measures every model's speed against.

Yan, Xiong and Lin, *Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition*, AAAI 2018,
written from the paper. It is there to be slow in the same way on every day: nothing that makes our own models faster
belongs here, and a change of it makes older figures useless.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hhmnet.skeleton import SkeletonLayout

WIDTHS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
STRIDES = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)
"""Channels and temporal strides of the ten units (section 3.6, "Network architecture and training")."""
KERNEL = 9
"""Taps of the temporal convolution."""
DROPOUT = 0.5


def spatial_partition(layout: SkeletonLayout) -> np.ndarray:
    """The three adjacency matrices of the spatial partitioning (equation 8), ``(3, V, V)`` float32.

    Element ``[k, i, j]`` is what joint j gives to joint i: k is 0 where both are equally far from the root (or are
    the same joint), 1 where j is nearer to it, 2 where j is farther. Each entry is divided by the number of joints
    that j gives to, itself included.
    """
    neighbours = layout.hops <= 1
    distance = layout.hops[layout.root]
    further = np.sign(distance[None, :] - distance[:, None])  # of j than i: -1 nearer, 1 farther
    shares = neighbours / neighbours.sum(0, keepdims=True)
    return np.stack([np.where(further == sign, shares, 0.0) for sign in (0, -1, 1)]).astype(np.float32)


class Unit(nn.Module):
    """A spatial graph convolution, then a temporal one of the given stride, beside a shortcut unless it is the first.

    The spatial one has a weight matrix for each part of a neighbourhood (equation 10).
    """

    adjacency: Tensor

    def __init__(self, width_in: int, width: int, stride: int, adjacency: np.ndarray, is_first: bool) -> None:
        super().__init__()
        self.transform = nn.Conv2d(width_in, width * len(adjacency), 1)
        self.register_buffer("adjacency", torch.from_numpy(adjacency), persistent=False)
        self.importance = nn.Parameter(torch.ones(adjacency.shape))
        self.temporal = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, (KERNEL, 1), (stride, 1), (KERNEL // 2, 0)),
            nn.BatchNorm2d(width),
            nn.Dropout(DROPOUT),
        )
        self.shortcut: nn.Module | None = None if is_first else nn.Identity()
        if not is_first and (width_in, stride) != (width, 1):
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, (stride, 1)), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (B, width_in, T, V)`` to ``(B, width, ceil(T / stride), V)``."""
        y = self.transform(x).unflatten(1, (len(self.adjacency), -1))
        y = self.temporal(torch.einsum("bkctj,kij->bcti", y, self.adjacency * self.importance))
        return torch.relu(y if self.shortcut is None else y + self.shortcut(x))


class STGCN(nn.Module):
    """The classifier of ten units, for the joints of ``layout``."""

    def __init__(self, layout: SkeletonLayout, num_classes: int) -> None:
        super().__init__()
        adjacency, widths = spatial_partition(layout), (layout.dims, *WIDTHS)
        self.norm = nn.BatchNorm1d(layout.dims * layout.num_joints)
        self.units = nn.Sequential(
            *(
                Unit(widths[i], width, STRIDES[i], adjacency, is_first=i == 0)
                for i, width in enumerate(WIDTHS)
            )
        )
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` of joints ``x (N, C, T, V, M)``."""
        clips, channels, frames, joints, persons = x.shape
        x = x.permute(0, 4, 1, 3, 2).reshape(clips * persons, channels * joints, frames)
        x = self.norm(x).unflatten(1, (channels, joints)).transpose(2, 3).contiguous()
        features = self.units(x).mean((2, 3))
        return self.classifier(features.unflatten(0, (clips, persons)).mean(1))
