"""The video network of phase 2: one backbone over the grid of body parts and over the whole person."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hhmnet.models.backbones import RGBBackbone
from hhmnet.skeleton import PARTS

if TYPE_CHECKING:
    from hhmnet.data.video_batch import VideoInput


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
        scene: look at the whole person too. Without, "the whole" among the features is the mean of the parts.
        dropout: before the linear maps.
        frozen: share of the backbone's layers, from the pictures on, that stay as they are, in eval mode for good.
        freeze_norms: leave the statistics of its batch norms as they are.
    """

    def __init__(
        self,
        backbone: RGBBackbone,
        num_classes: int,
        scene: bool = True,
        dropout: float = 0.0,
        frozen: float = 0.0,
        freeze_norms: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.freeze_norms = backbone, freeze_norms
        layers = backbone.layers()
        self._frozen = layers[: round(frozen * len(layers))]
        for layer in self._frozen:
            layer.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.part_head = nn.Linear(len(PARTS) * backbone.channels, num_classes)
        self.scene_head = nn.Linear(backbone.channels, num_classes, bias=False) if scene else None
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

    def forward(
        self, video: VideoInput, guidance: Tensor | None = None, guide: str = "feature"
    ) -> VideoOutput:
        """Classify clips; where a clip has no pictures, its features are zero and its logits mean nothing.

        Args:
            video: crops of the clips.
            guidance: ``(N, P, K)`` weight of every cell, or None.
            guide: what it weights: ``input`` (the cells' pixels) or ``feature`` (their features).

        Raises:
            ValueError: a cell of the grid doesn't hold whole cells of the feature map.
        """
        cells = self._cells(video, guidance if guide == "input" else None)
        if guidance is not None and guide == "feature":
            cells = cells * guidance[..., None]
        share = video.cell_mask.to(cells.dtype)[..., None]
        parts = (cells * share).sum(2) / share.sum(2).clamp_min(1)
        there = video.cell_mask.any(2)
        logits = self.part_head(self.dropout(parts).flatten(1))
        if self.scene_head is None:
            count = there.sum(1, keepdim=True)
            whole, whole_there = parts.sum(1) / count.clamp_min(1), count[:, 0] > 0
        else:
            whole, whole_there = self._scene(video), video.scene_mask.any(1)
            logits = logits + self.scene_head(self.dropout(whole))
        return VideoOutput(
            logits.float(),
            torch.cat([parts, whole[:, None]], 1),
            torch.cat([there, whole_there[:, None]], 1),
        )

    def _cells(self, video: VideoInput, guidance: Tensor | None) -> Tensor:
        """Features ``(N, P, K, D)`` of the grid's cells."""
        clips, parts, instants = video.cell_mask.shape
        side = self._side(video)
        grid = video.grid.view(clips, 3, parts, side, instants, side)
        if guidance is not None:
            grid = grid * guidance[:, None, :, None, :, None]

        def image(grid: Tensor) -> Tensor:
            maps = self._maps(grid.flatten(4, 5).flatten(2, 3))
            inner = side // self.backbone.stride
            return (
                maps.unflatten(3, (instants, inner)).unflatten(2, (parts, inner)).mean((3, 5)).movedim(1, 3)
            )

        def clip(grid: Tensor) -> Tensor:
            maps = self._maps(grid.permute(0, 2, 1, 4, 3, 5).flatten(0, 1)).mean((3, 4))
            maps = functional.interpolate(maps, instants, mode="linear", align_corners=False)
            return maps.unflatten(0, (-1, parts)).movedim(2, 3)

        shape = (parts, instants, self.backbone.channels)
        return _on_rows(grid, video.cell_mask.any((1, 2)), clip if self.backbone.video else image, shape)

    def _scene(self, video: VideoInput) -> Tensor:
        """Features ``(N, D)`` of the whole person, the mean over the frames that there are."""
        shape = (self.backbone.channels,)
        if self.backbone.video:
            frames = video.scene.transpose(1, 2)
            rows = video.scene_mask.any(1)
            return _on_rows(frames, rows, lambda x: self._maps(x).mean((2, 3, 4)), shape)
        mask = video.scene_mask
        each = _on_rows(
            video.scene.flatten(0, 1), mask.flatten(), lambda x: self._maps(x).mean((2, 3)), shape
        )
        return each.unflatten(0, (-1, mask.shape[1])).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)

    def _side(self, video: VideoInput) -> int:
        parts, instants = video.cell_mask.shape[1:]
        height, width = video.grid.shape[2:]
        side = height // parts
        if (height, width) != (parts * side, instants * side):
            raise ValueError(
                f"a grid of {parts} rows and {instants} columns of squares can't measure {width} x {height} pixels"
            )
        if not self.backbone.video and side % self.backbone.stride:
            raise ValueError(cell_problem(side, self.backbone.stride))
        return side

    def _maps(self, images: Tensor) -> Tensor:
        if images.ndim == 4:  # depthwise convolutions are several times faster so on a CPU
            images = images.contiguous(memory_format=torch.channels_last)
        return self.backbone(images)


def cell_problem(cell: int, stride: int) -> str:
    """Why cells of this size don't go with a backbone of this stride."""
    return (
        f"field 'video.cell' is {cell}; it must be a multiple of {stride}, the stride of the backbone, so that every "
        "cell owns whole cells of the feature map"
    )


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
