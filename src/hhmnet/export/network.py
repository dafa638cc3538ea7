"""A network as it is exported: the same answers from fewer operators, in shapes that its input alone decides."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from hhmnet.models.homogeneous import HomogeneousNetwork
from hhmnet.models.layers import activation, stride_mask
from hhmnet.models.mobile import ConvNorm
from hhmnet.models.re_dmt import REDMT
from hhmnet.models.sk_tc import SKTC
from hhmnet.models.stst import STST, STSTBlock, STSTOutput
from hhmnet.models.video_net import VideoNetwork

if TYPE_CHECKING:
    from hhmnet.data.video_batch import VideoInput

PLACE = "hhmnet", "Encoder"
"""Domain and name of the node that stands for a stream's encoder until the encoder's own nodes take its place."""


class WholeEncoder(STST):
    """ST&ST whose shapes depend on its input's shapes alone: a person who is absent is computed and counts nothing."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> STSTOutput:
        """As :meth:`STST.forward`, with a mask."""
        assert mask is not None
        clips, channels, frames, joints, persons = x.shape
        x = x.permute(0, 4, 1, 3, 2).reshape(clips * persons, channels, joints, frames)
        features, rows = self._encode(x, mask.permute(0, 2, 1).reshape(clips * persons, frames))
        full = features.unflatten(0, (clips, persons))
        count = rows.unflatten(0, (clips, persons)).sum((1, 2)).to(features.dtype) * joints
        embedding = full.sum((1, 3, 4)) / count.clamp_min(1.0)[:, None]
        return STSTOutput(self.classifier(embedding), embedding, full.permute(0, 1, 4, 3, 2))

    def _encode(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        assert mask is not None
        _, channels, joints, frames = x.shape
        x = x.masked_fill(
            ~mask[:, None, None, :], 0.0
        )  # NaN too; how many frames those are mustn't shape the graph
        x = self.input_norm(x.view(-1, channels * joints, 1, frames)).view(-1, channels, joints, frames)
        x = self.embed(x) + self.joint_embedding.unsqueeze(-1)
        for block in self.blocks:
            x = block(x, mask)
            later = stride_mask(mask, block.stride)  # type: ignore[arg-type]
            assert later is not None
            mask = later
        return silence(activation(self.output_norm(x)), mask), mask


class PlainBlock(STSTBlock):
    """A block that silences absent frames only where another frame would hear them.

    After :meth:`STST.forward`'s first look at a clip no number is NaN, so that they can be multiplied with zero, which
    takes half the time.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As :meth:`STSTBlock.forward`, but for what stands at absent frames."""
        assert mask is not None
        x = x + self.spatial(self.spatial_norm(x), mask)
        y = self.temporal(activation(self.temporal_norm(x)), mask)
        if self.stride > 1:
            x = silence(x, mask)
        return self.shortcut(x) + y


class PlainKernels(SKTC):
    """SK-TC with as few operators on whole maps as it can do with."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As :meth:`SKTC.forward`."""
        assert mask is not None
        x = silence(activation(self.reduce_norm(self.reduce(x))), mask)
        inputs = [branch(x) for branch in self.branches]
        if self.max_pool:
            inputs.append(self._pool(x, mask))
        outputs = [activation(norm(y)) for norm, y in zip(self.branch_norms, inputs, strict=True)]
        return self.expand(self._select(outputs, stride_mask(mask, self.stride)))

    def _select(self, outputs: list[Tensor], mask: Tensor | None) -> Tensor:
        if self.squeeze is None:
            return super()._select(outputs, mask)
        weights = self.weights(outputs, mask).unsqueeze(-1).unsqueeze(-1).unbind()
        first, *others = (y * weight for y, weight in zip(outputs, weights, strict=True))
        return sum(others, first)


class PlainAttention(REDMT):
    """RE-DMT for maps that lie channels first, as they do outside PyTorch: nothing is moved about for a product."""

    query: nn.Conv1d
    key: nn.Conv1d

    def split(self) -> None:
        """Make two convolutions of the linear map to queries and keys; the queries' has the scale in it."""
        scale = 1 / math.sqrt(self.key_width)
        for i, (name, factor) in enumerate((("query", scale), ("key", 1.0))):
            conv = nn.Conv1d(self.query_key.in_features, self.heads * self.key_width, 1)
            conv.weight = nn.Parameter(self.query_key.weight.chunk(2)[i][..., None] * factor)
            conv.bias = nn.Parameter(self.query_key.bias.chunk(2)[i] * factor)
            setattr(self, name, conv)

    def logits(self, pooled: Tensor) -> Tensor:
        """As :meth:`REDMT.logits`."""
        x = pooled.transpose(1, 2)
        shape = -1, self.heads, self.key_width, x.shape[2]
        query, key = (conv(x).view(shape) for conv in (self.query, self.key))
        return query.transpose(-1, -2) @ key + self.distance_bias[:, self.hops]  # type: ignore[index]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As :meth:`REDMT.forward`."""
        if self.chunks > 1:
            return super().forward(x, mask)
        weights = self.attention(self._pooled(x, mask))
        mix = torch.tanh(self.gate)[:, None, None] * weights + self.graph
        width, joints, frames = x.shape[1:]
        value = self.value(x).view(-1, self.heads, width // self.heads, joints, frames)
        return (mix.unsqueeze(2) @ value).view(-1, width, joints, frames)

    def _dynamic_mask(self, logits: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.mask != "threshold":
            return super()._dynamic_mask(logits)
        # Written out: ONNX has no standard deviation, and what PyTorch makes of its own asks for many shapes.
        away = logits - logits.mean(-1, keepdim=True)
        spread = (away.square().sum(-1, keepdim=True) / (logits.shape[-1] - 1)).sqrt()
        own = torch.eye(logits.shape[-1], dtype=torch.bool)
        keep = (away / (spread + 1e-6) >= self.threshold) | own
        return None, keep.to(logits.dtype)


def silence(x: Tensor, mask: Tensor) -> Tensor:
    """Zero the frames of ``x (B, D, V, T)`` that ``mask (B, T)`` leaves out, where every number is finite."""
    return x * mask.to(x.dtype).unsqueeze(1).unsqueeze(1)


class WholeVideo(VideoNetwork):
    """A video network that computes the pictures which aren't there too, and counts them nothing."""

    def _cells(self, video: VideoInput, guidance: Tensor | None) -> Tensor:
        parts, instants = video.cell_mask.shape[1:]
        side = self._side(video)
        grid = video.grid.unflatten(3, (instants, side)).unflatten(2, (parts, side))
        if guidance is not None:
            grid = grid * guidance[:, None, :, None, :, None]
        maps = self._maps(grid.flatten(4, 5).flatten(2, 3))
        inner = side // self.backbone.stride
        return maps.unflatten(3, (instants, inner)).unflatten(2, (parts, inner)).mean((3, 5)).movedim(1, 3)

    def _scene(self, video: VideoInput) -> Tensor:
        each = self._maps(video.scene.flatten(0, 1)).mean((2, 3)).unflatten(0, (-1, video.scene.shape[1]))
        mask = video.scene_mask[..., None].to(each.dtype)
        return (each * mask).sum(1) / mask.sum(1).clamp_min(1)


class Through(nn.Module):
    """What stands where a norm stood whose work a convolution does."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x`` as it is."""
        return x


class Place(nn.Module):
    """One node in the place of a stream's encoder.

    Streams have the same encoder with other weights. Making a graph of it takes most of the time that an export takes,
    so it is made once; see :func:`hhmnet.export.streams.fill`.
    """

    def __init__(self, encoder: STST, stream: str) -> None:
        super().__init__()
        self.stream, self.classes = stream, encoder.num_classes
        self.width, self.strides = encoder.config.widths[-1], encoder.config.strides

    def forward(self, x: Tensor, mask: Tensor) -> STSTOutput:
        """As :meth:`STST.forward`, for a program that makes a graph."""
        clips, _, frames, joints, persons = x.shape
        for stride in self.strides:
            frames = -(-frames // stride)
        shapes = (clips, self.classes), (clips, self.width), (clips, persons, frames, joints, self.width)
        found = torch.onnx.ops.symbolic_multi_out(
            "::".join(PLACE),
            (x, mask),
            {"stream": self.stream},
            dtypes=[torch.float32] * len(shapes),
            shapes=shapes,
            version=1,
        )
        return STSTOutput(*found)


def exportable(network: nn.Module) -> nn.Module:
    """A copy of a network, in eval mode on the CPU in float32, that can become a graph."""
    network = copy.deepcopy(network).cpu().float().eval()
    for module in list(network.modules()):
        # Only what shapes and operators depend on is other; weights and settings stay where they are.
        if type(module) is STST:
            module.__class__ = WholeEncoder
        elif type(module) is VideoNetwork:
            module.__class__ = WholeVideo
        elif type(module) is REDMT:
            module.__class__ = PlainAttention
            assert isinstance(module, PlainAttention)
            module.split()
        elif type(module) is STSTBlock:
            module.__class__ = PlainBlock
        elif type(module) is SKTC:
            module.__class__ = PlainKernels
            if isinstance(module.reduce_norm.norm, nn.BatchNorm2d):
                _fold_branches(module)
        elif isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv, module.norm = _fused(module.conv, module.norm), Through()
    return network.requires_grad_(False)


def _fold_branches(module: SKTC) -> None:
    """Let the convolutions of SK-TC do the work of the norms that follow them; a pooling has none to do it."""
    norms = [module.reduce_norm.norm, *(norm.norm for norm in module.branch_norms)]
    convs = [module.reduce, *module.branches]
    # There is one norm more where there is a pooling.
    fused = [_fused(conv, norm) for conv, norm in zip(convs, norms, strict=False)]
    module.reduce, module.reduce_norm = fused[0], Through()  # type: ignore[assignment]
    for i, conv in enumerate(fused[1:]):
        module.branches[i], module.branch_norms[i] = conv, Through()


def _fused(conv: object, norm: object) -> nn.Conv2d:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def take_encoders(network: nn.Module) -> dict[str, STST]:
    """Put a :class:`Place` for each encoder of a network of several streams; returns the encoders by stream."""
    taken: dict[str, STST] = {}
    for module in network.modules():
        if isinstance(module, HomogeneousNetwork):
            taken = {name: module.encoders[name] for name in module.streams}  # type: ignore[misc]
            for name, encoder in taken.items():
                module.encoders[name] = Place(encoder, name)
            break
    return taken
