"""The video network of phase 2: one backbone over the grid of body parts and over the whole person.

Beneath it stands what a frozen skeleton encoder tells it: where to look, and what the body parts mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hhmnet.fields import one_of, within
from hhmnet.models.backbones import BACKBONES, RGBBackbone
from hhmnet.models.homogeneous import check_shares
from hhmnet.models.layers import without_autocast
from hhmnet.skeleton import PARTS

if TYPE_CHECKING:
    from hhmnet.data.video_batch import VideoInput


GUIDANCES = ("none", "feature")


@dataclass
class HeterogeneousConfig:
    """How a video network is built, guided by a skeleton network, and joined with it."""

    backbone: str = "efficientnet_lite0"
    """Image network: efficientnet_lite0 or small."""
    pretrained: bool = True
    """Begin with the backbone's ImageNet weights, whose statistics its batch norms then keep; small has none."""
    frozen: float = 0.0
    """Share of the backbone's layers, from the pictures on, that stay as they are; 1 trains only what follows it."""
    guidance: str = "feature"
    """What the skeleton's attention weights: feature (the cells' features) or none."""
    scene: bool = True
    """See the whole person and the surroundings beside the body parts."""
    moments: int = 1
    """Waves over time by which the instants' features are gathered: 1 takes their mean, 2 knows what came first."""
    projection: int = 128
    """Channels of the space in which video and skeleton are compared."""
    dropout: float = 0.5
    """Dropout before the video's classifier."""
    weights: tuple[float, ...] = ()
    """Weight of each stream's logits, then of the video's; empty weighs the video like an average stream."""

    def __post_init__(self) -> None:
        one_of(self, "backbone", tuple(BACKBONES))
        one_of(self, "guidance", GUIDANCES)
        within(self, 1, 2**14, "projection")
        within(self, 1, math.inf, "moments")
        within(self, 0, 0.99, "dropout")
        within(self, 0, 1, "frozen")
        check_shares(self)


class VideoOutput(NamedTuple):
    """What the video network returns.

    Attributes:
        logits: ``(N, classes)``.
        parts: ``(N, P + 1, D)``, features of every part and of the whole; zero where there is none.
        there: ``(N, P + 1)`` bool, which of them there are.
    """

    logits: Tensor
    parts: Tensor
    there: Tensor


class VideoNetwork(nn.Module):
    """Classifies clips by pictures of their body parts and of the whole person.

    The logits are the sum of a linear map of the parts (each part has weights of its own) and one of the scene. That
    equals one linear map of them all, but a clip without a scene, or without crops, loses just that summand.

    Args:
        backbone: from pictures to feature maps; both kinds of picture go through it.
        num_classes: number of actions.
        config: what is looked at, and what stays as it is, in eval mode for good. Without the scene "the whole" among
            the features is the mean of the parts.
    """

    def __init__(self, backbone: RGBBackbone, num_classes: int, config: HeterogeneousConfig) -> None:
        super().__init__()
        self.backbone, self.freeze_norms, self.moments = backbone, config.pretrained, config.moments
        layers = backbone.layers()
        self._frozen = layers[: round(config.frozen * len(layers))]
        for layer in self._frozen:
            layer.requires_grad_(False)
        self.dropout = nn.Dropout(config.dropout)
        width = backbone.channels * config.moments
        self.part_head = nn.Linear(len(PARTS) * width, num_classes)
        self.scene_head = nn.Linear(width, num_classes, bias=False) if config.scene else None
        self.train()

    def train(self, mode: bool = True) -> VideoNetwork:
        """Set the training mode of all but what is frozen."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        if self.freeze_norms:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, video: VideoInput, guidance: Tensor | None = None) -> VideoOutput:
        """Classify clips; where a clip has no pictures, its features are zero and its logits mean nothing.

        Args:
            video: crops of the clips.
            guidance: ``(N, P, K)`` from 0 to 2, by which every cell's features are weighted, or None.
        """
        cells = self.cells(video)
        if guidance is not None:
            # From half to one and a half: what is dimmed stays in sight, and a video without a skeleton isn't lost.
            cells = cells * (1 + guidance[..., None]) / 2
        parts = over_time(cells, video.cell_mask, self.moments)
        there = video.cell_mask.any(2)
        logits = self.part_head(self.dropout(parts).flatten(1))
        if self.scene_head is None:
            count = there.sum(1, keepdim=True)
            whole, whole_there = parts.sum(1) / count.clamp_min(1), count[:, 0] > 0
        else:
            whole = over_time(self.scenes(video), video.scene_mask, self.moments)
            whole_there = video.scene_mask.any(1)
            logits = logits + self.scene_head(self.dropout(whole))
        return VideoOutput(
            logits.float(),
            torch.cat([parts, whole[:, None]], 1)[..., : self.backbone.channels],
            torch.cat([there, whole_there[:, None]], 1),
        )

    def cells(self, video: VideoInput) -> Tensor:
        """Features ``(N, P, K, D)`` of the grid's cells, each the mean of whole cells of the feature map."""
        _, parts, instants = video.cell_mask.shape

        def features(grid: Tensor) -> Tensor:
            maps = self._maps(grid).unflatten(3, (instants, -1)).unflatten(2, (parts, -1))
            return maps.mean((3, 5)).movedim(1, 3)

        shape = (parts, instants, self.backbone.channels)
        return _on_rows(video.grid, video.cell_mask.any((1, 2)), features, shape)

    def scenes(self, video: VideoInput) -> Tensor:
        """Features ``(N, K2, D)`` of the pictures of the whole person."""
        mask, shape = video.scene_mask, (self.backbone.channels,)
        each = _on_rows(
            video.scene.flatten(0, 1), mask.flatten(), lambda x: self._maps(x).mean((2, 3)), shape
        )
        return each.unflatten(0, (-1, mask.shape[1]))

    def _maps(self, images: Tensor) -> Tensor:
        # Depthwise convolutions are several times faster so on a CPU.
        return self.backbone(images.contiguous(memory_format=torch.channels_last))


def over_time(x: Tensor, there: Tensor, moments: int) -> Tensor:
    """Features of a clip's instants gathered by cosine waves over the clip: ``(N, ..., moments·D)``.

    The first wave is constant and gives the mean, which doesn't know what came first; the second runs from 1 to -1 over
    the clip, the third has a whole period, and so on, as in a discrete cosine transform.

    Args:
        x: ``(N, ..., K, D)``.
        there: ``(N, ..., K)`` bool, which of the instants there are.
        moments: number of waves.
    """
    count = x.shape[-2]
    phase = torch.pi * (torch.arange(count, device=x.device) + 0.5) / count
    waves = torch.cos(phase * torch.arange(moments, device=x.device)[:, None]).to(x.dtype)
    share = there.to(x.dtype)[..., None]
    return (waves @ (x * share) / share.sum(-2, keepdim=True).clamp_min(1)).flatten(-2)


def _on_rows(
    images: Tensor, rows: Tensor, features: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> Tensor:
    """Features ``(B, *shape)`` of the ``images (B, ...)`` that ``rows`` names, zero elsewhere.

    What is missing is not computed: it would enter the statistics of the backbone's batch norms. In an exported graph,
    whose shapes mustn't depend on what is missing, it is computed and left out afterwards.
    """
    if torch.compiler.is_exporting():
        return features(images) * rows.view(-1, *[1] * len(shape)).to(images.dtype)
    if rows.all():
        return features(images)
    out = torch.zeros(len(rows), *shape, device=images.device)
    if rows.any():
        found = features(images[rows])
        out = out.to(found.dtype).index_put((rows,), found)
    return out


def chunk_overlap(times: Tensor, frames: int, stride: int) -> Tensor:
    """How many sampled frames each frame of a feature map shares with each instant's chunk: ``(N, K, T')``.

    An instant's chunk reaches half-way to its neighbours, the first one to the clip's beginning and the last one to
    its end, and is at least one frame wide. A feature frame stands for ``stride`` sampled ones.

    Args:
        times: ``(N, K)``, rising, as indices of sampled frames from 0 to ``frames - 1``.
        frames: sampled frames, T.
        stride: temporal stride of the feature map, T' = ceil(T / stride).
    """
    times = times.float().clamp(0, frames - 1) + 0.5  # the frame with index i lasts from i to i + 1
    between = (times[:, 1:] + times[:, :-1]) / 2
    ends = times.new_tensor([0.0, frames]).expand(times.shape[0], 2)
    low = torch.minimum(torch.cat([ends[:, :1], between], 1), times - 0.5)
    high = torch.maximum(torch.cat([between, ends[:, 1:]], 1), times + 0.5)
    begin = torch.arange(0, frames, stride, device=times.device, dtype=times.dtype)
    end = (begin + stride).clamp_max(frames)
    shared = torch.minimum(high[:, :, None], end) - torch.maximum(low[:, :, None], begin)
    return shared.clamp_min(0)


def scale_each(x: Tensor, seen: Tensor) -> Tensor:
    """Each clip's ``x (N, P, K)`` from its least to its greatest value as 0 to 2; 1 where they are equal.

    Nothing is taken from other clips of the batch, so a clip's answer doesn't depend on its neighbours.

    Args:
        x: any numbers.
        seen: ``(N, P, K)`` bool, the cells that have a value; the others become 1, which neither stresses nor dims.
    """
    low = x.masked_fill(~seen, torch.inf).amin((1, 2), keepdim=True)
    high = x.masked_fill(~seen, -torch.inf).amax((1, 2), keepdim=True)
    # Relative to the size: what is equal but for rounding must not be blown up.
    differ = seen & (high - low > 1e-5 * high.abs())
    scaled = 2 * (x - low) / torch.where(differ, high - low, 1.0)
    return torch.where(differ, scaled, 1.0)


def guidance(
    features: Sequence[Tensor], there: Tensor, times: Tensor, frames: int, stride: int, weights: Tensor
) -> Tensor:
    """Weight of every cell of a grid of body parts, ``(N, P, K)`` from 0 to 2.

    The length over channels of the encoder's last feature map, averaged over the persons who are there, the joints
    of a part and the frames of an instant's chunk, then scaled for each clip apart. Of several streams the scaled maps
    are averaged and scaled once more. (MMNet, Yu et al., TPAMI 2023, scales over the batch and cuts to whole numbers.)

    Args:
        features: ``(N, M, T', V, D)`` of every stream, zero where a person or a frame is absent.
        there: ``(N, M, T')`` bool, true where a body is there.
        times: ``(N, K)`` instants of the grid's columns, as indices of sampled frames from 0 to ``frames - 1``.
        frames: sampled frames, T.
        stride: temporal stride of the feature maps.
        weights: ``(P, V)`` from :func:`part_weights`.
    """
    with without_autocast(times):  # half the digits would round the weights
        share = torch.einsum("nkt,nmt->nkmt", chunk_overlap(times, frames, stride), there.float())
        total = share.sum((2, 3))[:, None]  # (N, 1, K)
        seen = (total > 0) & (weights.sum(1) > 0)[:, None]
        maps = []
        for feature in features:
            strength = torch.einsum("nmtv,pv->nmtp", feature.float().norm(dim=-1), weights)
            mean = torch.einsum("nkmt,nmtp->npk", share, strength) / torch.where(total > 0, total, 1.0)
            maps.append(scale_each(mean, seen))
    return maps[0] if len(maps) == 1 else scale_each(torch.stack(maps).mean(0), seen)


def part_meanings(features: Sequence[Tensor], embeddings: Sequence[Tensor], weights: Tensor) -> Tensor:
    """What the skeleton encoders know of every body part and of the whole clip, ``(N, P + 1, S·D)`` float32.

    Each stream's feature map is averaged over the persons and frames that are there and the joints of a part; the
    streams lie one behind the other, each of length 1, so that none drowns the others.

    Args:
        features: ``(N, M, T', V, D)`` of every stream, zero where a person or a frame is absent.
        embeddings: ``(N, D)`` of every stream; they make the last row.
        weights: ``(P, V)`` from :func:`part_weights`.
    """
    found = []
    for feature, embedding in zip(features, embeddings, strict=True):
        joints = feature.float().sum((1, 2))  # as good as the mean, since its length becomes 1
        parts = torch.cat([torch.einsum("nvd,pv->npd", joints, weights), embedding.float()[:, None]], 1)
        found.append(functional.normalize(parts, dim=2))
    return torch.cat(found, 2)
