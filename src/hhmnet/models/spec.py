"""What, beside its weights, makes a model usable: shape, preprocessing, skeleton, class names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from hhmnet.confidence import Confidence, read_confidence
from hhmnet.data.transform import DataConfig
from hhmnet.fields import check_types, within
from hhmnet.models.backbones import BACKBONES
from hhmnet.models.heterogeneous import HeterogeneousConfig, HeterogeneousNetwork
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import SkeletonLayout

if TYPE_CHECKING:
    from hhmnet.data.roi import RoiConfig
    from hhmnet.data.video_batch import VideoConfig

FORMAT = "hhmnet-model"
VERSION = 1

USUAL_RATE = 30.0
"""Frames a second where nobody says: a Kinect's, and most cameras'."""

_OF_CLIPS = ("clip_frames", "clip_rate", "body_size")
_OPTIONAL = (*_OF_CLIPS, "heterogeneous", "video", "roi", "heads", "confidence")
# What a model file may ask for at most, so that none takes all memory or time.
_MOST_PAIRS = 2**24
"""Pairs of joints in all frames of a clip: 26,843 frames of 25 joints. Attention takes memory by them."""
_MOST_PIXELS = 2**24
"""Pixels of a clip's grid and scenes; a hundred times the default."""

Network = STST | HomogeneousNetwork | HeterogeneousNetwork


class PretrainedError(ValueError):
    """A model folder that can't be used."""


class SpecError(ValueError):
    """Settings of network, preprocessing and skeleton that don't fit each other."""


@dataclass(frozen=True)
class Head:
    """One set's own classifier, of a model that learned from several sets; its classes follow those of the one before.

    Attributes:
        name: of the set.
        classes: how many of the model's ``class_names`` are its own.
        protocol: split that it was trained under.
        clip_frames: as the model's.
        clip_rate: as the model's.
        confidence: as the model's.
    """

    name: str
    classes: int
    protocol: str = ""
    clip_frames: int | None = None
    clip_rate: float | None = None
    confidence: dict[str, Confidence] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSpec:
    """What, beside the weights, makes a model usable.

    Attributes:
        model: shape and variants of the network.
        data: preprocessing that the weights expect.
        layout: joints that come in.
        class_names: actions that come out, in the order of the logits.
        protocol: split that the model was trained under.
        fold: fold held out in training, or None.
        fusion: how several streams are joined.
        heterogeneous: the video side; None for a model of skeletons alone.
        video: how crops become the video network's input; with ``heterogeneous`` only.
        roi: how crops are cut from a video; with ``heterogeneous`` only.
        clip_frames: median length of the training clips in frames; None where nobody noted it.
        clip_rate: frames a second of the training clips; None where it isn't known.
        heads: of a model that learned from several sets, each set's own part of ``class_names``; empty for one set.
        body_size: median length of the training data's bodies along their longest axis, in the layout's units; None
            where nobody noted it.
        confidence: how sure answers are, by the modalities that they rest on, joined by +; empty where no clips were
            held out.

    Raises:
        SpecError: where the settings don't fit each other.
    """

    model: STSTConfig
    data: DataConfig
    layout: SkeletonLayout
    class_names: tuple[str, ...]
    protocol: str = ""
    fold: int | None = None
    fusion: FusionConfig = field(default_factory=FusionConfig)
    heterogeneous: HeterogeneousConfig | None = None
    video: VideoConfig | None = None
    roi: RoiConfig | None = None
    clip_frames: int | None = None
    clip_rate: float | None = None
    heads: tuple[Head, ...] = ()
    body_size: float | None = None
    confidence: dict[str, Confidence] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_skeleton()
        self._check_video()
        for name in _OF_CLIPS:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise SpecError(f"field '{name}' must be a number above 0, or left out; got {value!r}")

    @property
    def clip_seconds(self) -> float | None:
        """Median length of the training clips in seconds; at 30 frames a second where their rate isn't known."""
        return None if self.clip_frames is None else self.clip_frames / (self.clip_rate or USUAL_RATE)

    def head_classes(self) -> list[tuple[Head, slice]]:
        """Each head with its part of ``class_names``."""
        ends = list(accumulate(head.classes for head in self.heads))
        return [(head, slice(end - head.classes, end)) for head, end in zip(self.heads, ends, strict=True)]

    def confidences(self) -> list[dict[str, Confidence]]:
        """How sure the answers of each head are, or of the model where it has none."""
        return [head.confidence for head in self.heads] or [self.confidence]

    def with_confidences(self, found: Sequence[dict[str, Confidence]]) -> ModelSpec:
        """The same with others in the places of :meth:`confidences`."""
        if not self.heads:
            return dataclasses.replace(self, confidence=found[0])
        pairs = zip(self.heads, found, strict=True)
        return dataclasses.replace(
            self, heads=tuple(dataclasses.replace(head, confidence=one) for head, one in pairs)
        )

    def _check_skeleton(self) -> None:
        streams = self.data.streams
        if self.fusion.weights and len(streams) > 1 and len(self.fusion.weights) != len(streams):
            raise SpecError(
                f"field 'fusion.weights' has {len(self.fusion.weights)} numbers, field 'data.stream' has "
                f"{len(streams)} streams ({self.data.stream}): give as many"
            )

    def _check_video(self) -> None:
        config, video, roi = self.heterogeneous, self.video, self.roi
        if len({part is None for part in (config, video, roi)}) > 1:
            raise SpecError("fields 'heterogeneous', 'video' and 'roi' go together: give all or none")
        if config is None or video is None or roi is None:
            return
        if config.weights and len(config.weights) != len(self.data.streams) + 1:
            raise SpecError(
                f"field 'heterogeneous.weights' has {len(config.weights)} numbers; give one for each of "
                f"{self.data.stream} and one for the video"
            )
        stride = BACKBONES[config.backbone].stride
        if video.cell % stride:
            raise SpecError(
                f"field 'video.cell' is {video.cell}; it must be a multiple of {stride}, the stride of the backbone, "
                "so that every cell owns whole cells of the feature map"
            )
        for name in ("cell", "scene"):
            if getattr(video, name) > getattr(roi, name):
                raise SpecError(
                    f"field 'video.{name}' is {getattr(video, name)}, more than the {getattr(roi, name)} pixels "
                    f"that field 'roi.{name}' cuts out"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        kind = "homogeneous" if len(self.data.streams) > 1 else "stst"
        fields = dataclasses.asdict(self) | {"layout": self.layout.to_dict()}
        for place, one in zip((fields, *fields["heads"]), (self, *self.heads), strict=True):
            place["confidence"] = {name: own.to_dict() for name, own in one.confidence.items()}  # type: ignore[attr-defined]
        fields = {name: value for name, value in fields.items() if value or name not in _OPTIONAL}
        network = kind if self.heterogeneous is None else "heterogeneous"
        return {"format": FORMAT, "version": VERSION, "network": network, **fields}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelSpec:
        """Inverse of :meth:`to_dict`; raises PretrainedError naming what is wrong, or what no model asks for."""
        if fields.get("format") != FORMAT:
            raise PretrainedError(f"field 'format' is not '{FORMAT}'")
        if fields.get("version") != VERSION:
            raise PretrainedError(f"it has version {fields.get('version')}, this hhmnet reads {VERSION}")
        try:
            names, video = fields["class_names"], {}
            if fields.keys() & {"heterogeneous", "video", "roi"}:
                # Imported here: a model of skeletons alone does without the video reader.
                from hhmnet.data.roi import RoiConfig
                from hhmnet.data.video_batch import VideoConfig

                kinds = {"heterogeneous": HeterogeneousConfig, "video": VideoConfig, "roi": RoiConfig}
                video = {name: _section(fields, name, kind) for name, kind in kinds.items()}
            if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise PretrainedError("field 'class_names' must be a list of names")
            spec = cls(
                model=_section(fields, "model", STSTConfig),
                fusion=_section(fields, "fusion", FusionConfig),
                data=_section(fields, "data", DataConfig),
                layout=SkeletonLayout.from_dict(fields["layout"]),
                class_names=tuple(names),
                protocol=fields["protocol"],
                fold=fields["fold"],
                heads=tuple(
                    Head(**head | {"confidence": read_confidence(head.get("confidence", {}))})
                    for head in fields.get("heads", ())
                ),
                confidence=read_confidence(fields.get("confidence", {})),
                **{name: fields[name] for name in _OF_CLIPS if name in fields},
                **video,
            )
        except KeyError as error:
            raise PretrainedError(f"the field {error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise PretrainedError(str(error)) from None
        _check_sizes(spec)
        return spec

    def build(self, pretrained: bool = True) -> Network:
        """The network with fresh weights: ST&ST for one stream, homogeneous for several, heterogeneous with video.

        Args:
            pretrained: false leaves a backbone's ImageNet weights out, since others will be loaded.
        """
        streams, classes = self.data.streams, len(self.class_names)
        skeleton: STST | HomogeneousNetwork
        if len(streams) == 1:
            skeleton = STST(self.model, self.layout, classes)
        else:
            skeleton = HomogeneousNetwork(self.model, self.fusion, self.layout, classes, streams)
        if self.heterogeneous is None:
            return skeleton
        return HeterogeneousNetwork(skeleton, self.heterogeneous, self.layout, classes, pretrained)


def _section(fields: dict[str, Any], name: str, kind: type[Any]) -> Any:
    """One section's configuration; JSON has no tuples."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in fields[name].items()}
    if strange := values.keys() - {field.name for field in dataclasses.fields(kind)}:
        raise PretrainedError(
            f"field '{name}.{min(strange)}' isn't known here: another version of hhmnet wrote it"
        )
    return kind(**values)


def _check_sizes(spec: ModelSpec) -> None:
    """Raise PretrainedError for settings of the wrong kind, or that no model has."""
    for name in ("model", "fusion", "data", "heterogeneous", "video", "roi"):
        section = getattr(spec, name)
        if section is not None:
            try:
                check_types(section)
            except ValueError as error:
                raise PretrainedError(f"section '{name}': {error}") from None
    if not isinstance(spec.protocol, str):
        raise PretrainedError("field 'protocol' must be text")
    for head in spec.heads:
        check_types(head)
        within(head, 2, len(spec.class_names), "classes")
    if spec.heads and sum(head.classes for head in spec.heads) != len(spec.class_names):
        raise PretrainedError("field 'heads' must share out all of 'class_names'")
    if spec.data.frames * spec.data.persons * spec.layout.num_joints**2 > _MOST_PAIRS:
        raise PretrainedError(
            f"fields 'data.frames' and 'data.persons' are {spec.data.frames} and {spec.data.persons}: too many for "
            f"{spec.layout.num_joints} joints"
        )
    if spec.video is not None:
        pixels = spec.video.instants * 5 * spec.video.cell**2 + spec.video.scenes * spec.video.scene**2
        if pixels > _MOST_PIXELS:
            raise PretrainedError(
                f"section 'video' asks for {pixels:,} pixels a clip; at most {_MOST_PIXELS:,}"
            )


def check_weights(spec: ModelSpec, file: Path) -> None:
    """Raise PretrainedError where a file's weights are of another size than the skeletons' network.

    Only those are looked at that say how large the network is, so that none larger than the file is ever built; no
    weight is read.

    Raises:
        safetensors.SafetensorError: it is no such file.
    """
    streams, joints, widths = spec.data.streams, spec.layout.num_joints, spec.model.widths
    above = "skeleton." if spec.heterogeneous is not None else ""
    wanted: dict[str, list[int]] = {}
    for stream in streams:
        encoder = f"{above}encoders.{stream}." if len(streams) > 1 else above
        wanted[f"{encoder}joint_embedding"] = [widths[0], joints]
        wanted[f"{encoder}classifier.weight"] = [len(spec.class_names), joints * widths[-1]]
        for block, before in enumerate((widths[0], *widths[:-1])):
            heads = max(1, before // spec.model.head_width)
            wanted[f"{encoder}blocks.{block}.spatial.graph"] = [heads, joints, joints]
            wanted[f"{encoder}blocks.{block}.spatial.value.bias"] = [before]
    with safe_open(file, "pt") as handle:
        found = {name: handle.get_slice(name).get_shape() for name in handle.keys()}  # noqa: SIM118
    for name, shape in wanted.items():
        if found.get(name) != shape:
            problem = f"has the shape {found[name]}" if name in found else "is missing"
            raise PretrainedError(f"'{name}' {problem}; it must have {shape}")
