"""What a frozen skeleton encoder tells the video network: where to look, and what the body parts mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hhmnet.models.layers import without_autocast
from hhmnet.skeleton import PARTS, SkeletonLayout


def part_weights(layout: SkeletonLayout) -> Tensor:
    """Weight of every joint in the mean over each part, ``(P, V)`` float32; rows sum to 1, or 0 without a joint."""
    weights = torch.zeros(len(PARTS), layout.num_joints)
    for row, part in enumerate(PARTS):
        joints = list(layout.parts[part])
        weights[row, joints] = 1 / max(len(joints), 1)
    return weights


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
