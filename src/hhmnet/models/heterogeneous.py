"""The heterogeneous network of phase 2: a frozen skeleton network guides, teaches and joins a video network.

Given by the paper's abstract: fusion at model level (attention guided by the phase-1 model), at feature level
(multi-part contrastive learning) and at decision level (an ensemble). Our choices: the grid of body parts and the
guidance of MMNet (Yu et al., "MMNet: a model-based multimodal network", TPAMI 2023), the contrast of CRD (Tian et
al., ICLR 2020) part by part, and a weighted mean of raw logits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from hhmnet.models.backbones import build_backbone
from hhmnet.models.homogeneous import HomogeneousNetwork
from hhmnet.models.layers import part_weights, stride_mask
from hhmnet.models.stst import STST, SkeletonOutput
from hhmnet.models.video_net import HeterogeneousConfig, VideoNetwork, guidance, part_meanings
from hhmnet.skeleton import SkeletonLayout

if TYPE_CHECKING:
    from hhmnet.data.video_batch import VideoInput


class HeterogeneousOutput(NamedTuple):
    """What the heterogeneous network returns; S streams, P parts, K instants.

    Attributes:
        logits: ``(N, classes)``, the answer: the weighted mean of the logits of what a clip has; zero where it has
            nothing.
        skeleton: ``(S, N, classes)``, every stream's own; None without skeletons.
        video: ``(N, classes)``, the video's own; None without videos.
        part_features: ``(N, P + 1, projection)``, the parts and the whole as the video sees them.
        part_teacher: ``(N, P + 1, projection)``, as the skeleton knows them; no gradient reaches the encoder.
        part_mask: ``(N, P + 1)`` bool, where both are known.
        teacher: ``(N, classes)``, the skeleton's joint answer; carries no gradient.
        guidance: ``(N, P, K)`` from 0 to 2, as it was used; None where nothing was guided.
        used: ``(N, 2)`` bool, whether a clip had a skeleton and a video (``hhmnet.sample.MODALITIES``).
    """

    logits: Tensor
    skeleton: Tensor | None
    video: Tensor | None
    part_features: Tensor | None
    part_teacher: Tensor | None
    part_mask: Tensor | None
    teacher: Tensor | None
    guidance: Tensor | None
    used: Tensor


class HeterogeneousNetwork(nn.Module):
    """A skeleton network that stays as it is, and a video network beside it.

    The skeleton's features come to ``projection`` channels by a fixed orthogonal map, which keeps what is alike and
    what is not. A learned one could only be learned from the contrast itself, and would bend the teacher to the
    student.

    Args:
        skeleton: trained network of phase 1; it is frozen here, in eval mode for good.
        config: of the video side.
        layout: the skeleton whose joints come in.
        num_classes: number of actions.
        pretrained: false leaves ImageNet's weights out whatever the configuration says: others will be loaded.

    Raises:
        BackboneError: the backbone or its weights aren't there.
    """

    weights: Tensor
    part_joints: Tensor
    teacher_projection: Tensor

    def __init__(
        self,
        skeleton: STST | HomogeneousNetwork,
        config: HeterogeneousConfig,
        layout: SkeletonLayout,
        num_classes: int,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes
        self.skeleton = skeleton.requires_grad_(False)
        encoders = [module for module in skeleton.modules() if isinstance(module, STST)]
        self.num_streams = len(encoders)
        self.time_stride = math.prod(encoders[0].config.strides)
        backbone = build_backbone(config.backbone, config.pretrained and pretrained)
        self.video = VideoNetwork(backbone, num_classes, config)
        width, channels = backbone.channels, config.projection
        # Two maps: the parts come from the grid, the whole from another kind of picture.
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
            for _ in range(2)
        )
        known = sum(encoder.config.widths[-1] for encoder in encoders)
        self.register_buffer("teacher_projection", nn.init.orthogonal_(torch.empty(known, channels)))
        self.register_buffer("part_joints", part_weights(layout), persistent=False)
        self.register_buffer("weights", self._weights(), persistent=False)
        self.train()

    def _weights(self) -> Tensor:
        """Weights of the streams and of the video, which sum to 1."""
        if self.config.weights:
            weights = torch.tensor(self.config.weights)
        elif isinstance(self.skeleton, HomogeneousNetwork):
            weights = torch.cat([self.skeleton.weights.detach().cpu() * self.num_streams, torch.ones(1)])
        else:
            weights = torch.ones(2)
        return weights / weights.sum()

    def train(self, mode: bool = True) -> HeterogeneousNetwork:
        """Set the training mode of the video network; the skeleton network stays in eval mode."""
        super().train(mode)
        self.skeleton.eval()
        return self

    def forward(
        self, x: Tensor | None, mask: Tensor | None = None, video: VideoInput | None = None
    ) -> HeterogeneousOutput:
        """Classify clips by what there is of them.

        Args:
            x: ``(N, S·C, T, V, M)``, the streams' coordinates one behind the other; None without skeletons.
            mask: ``(N, T, M)`` bool, true where a person's body is there; all false for a clip without a skeleton.
            video: crops of the same clips; None without videos. A clip whose masks are all false has none.

        Raises:
            ValueError: both are missing.
        """
        if x is None and video is None:
            raise ValueError("there is neither a skeleton nor a video")
        known, there = (None, None) if x is None else self._skeleton_output(x, mask)
        count = x.shape[0] if x is not None else video.grid.shape[0]  # type: ignore[union-attr]
        absent = self.weights.new_zeros(count, self.num_classes)
        nobody = torch.zeros(count, dtype=torch.bool, device=absent.device)
        seen = features = taught = part_mask = weight = None
        if video is not None:
            weight = self.cell_weights(known, there, video, 0 if x is None else x.shape[2])
            seen = self.video(video, weight)
            whole = seen.parts[:, -1:]
            features = torch.cat([self.projections[0](seen.parts[:, :-1]), self.projections[1](whole)], 1)
        has_skeleton = nobody if there is None else there.any(2).any(1)
        has_video = nobody if seen is None else seen.there.any(1)
        if known is not None and seen is not None:
            with torch.no_grad():
                meanings = part_meanings(known.features, known.embeddings, self.part_joints)
                taught = meanings @ self.teacher_projection
            part_mask = seen.there & has_skeleton[:, None] & meanings.any(2)
        streams = absent.expand(self.num_streams, -1, -1) if known is None else known.each
        each = torch.cat([streams, (absent if seen is None else seen.logits)[None]])
        return HeterogeneousOutput(
            logits=self._join(each, has_skeleton, has_video),
            skeleton=None if known is None else known.each,
            video=None if seen is None else seen.logits,
            part_features=features,
            part_teacher=taught,
            part_mask=part_mask,
            teacher=None if known is None else self._join(each.detach(), has_skeleton, nobody),
            guidance=weight,
            used=torch.stack([has_skeleton, has_video], 1),
        )

    @torch.no_grad()
    def _skeleton_output(self, x: Tensor, mask: Tensor | None) -> tuple[SkeletonOutput, Tensor]:
        """What the frozen network says of these skeletons, and where in its features a body is, ``(N, M, T')``."""
        count, _, frames, _, persons = x.shape
        output = self.skeleton(x, mask)
        if mask is None:
            mask = torch.ones(count, frames, persons, dtype=torch.bool, device=x.device)
        there = stride_mask(mask.transpose(1, 2).reshape(-1, frames), self.time_stride)
        assert there is not None
        return output, there.unflatten(0, (count, persons))

    @torch.no_grad()
    def cell_weights(
        self, known: SkeletonOutput | None, there: Tensor | None, video: VideoInput, frames: int
    ) -> Tensor | None:
        """Weights ``(N, P, K)`` of the grid's cells; 1 throughout for a clip whose skeleton is missing."""
        if self.config.guidance == "none":
            return None
        if known is None or there is None:
            return torch.ones(video.cell_mask.shape, device=video.grid.device)
        return guidance(known.features, there, video.times, frames, self.time_stride, self.part_joints)

    def _join(self, each: Tensor, has_skeleton: Tensor, has_video: Tensor) -> Tensor:
        """Weighted mean over what each clip has, ``(N, classes)``, of ``each (S + 1, N, classes)``.

        Where all that a clip has weighs nothing, its parts weigh alike: any logits are better than none.
        """
        there = torch.stack([*[has_skeleton] * self.num_streams, has_video], 1).to(each.dtype)
        shares = there * self.weights
        shares = torch.where(shares.sum(1, keepdim=True) > 0, shares, there)
        shares = shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(each.dtype).tiny)
        return (shares.T[:, :, None] * each).sum(0)
