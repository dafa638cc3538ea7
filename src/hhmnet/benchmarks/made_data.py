"""A recipe on made clips of its data set's full shape: a trainer that can be timed where there is no data.

In phase 2 the crops are made up too, whether or not there is a store, and the skeleton network has fresh weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.config import TrainConfig
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.protocols import get_protocol
from hhmnet.data.roi import ClipCrops, empty_crops
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.sample import Sample
from hhmnet.skeleton import LAYOUTS
from hhmnet.store import Store, write_store
from hhmnet.training.engine import Trainer
from hhmnet.training.phases import VideoPhase


class ShapeError(ValueError):
    """A recipe of which nobody knows how large its data is."""


class Shape(NamedTuple):
    """What a data set's clips are like: skeleton, number of actions, a usual clip's frames, number to train on."""

    layout: str
    classes: int
    frames: int
    train: int


SHAPES = {
    "nw_ucla_cross_view": Shape("kinect20", 10, 40, 1020),
    "ntu60_xsub": Shape("ntu25", 60, 90, 40_091),
    "ntu60_xview": Shape("ntu25", 60, 90, 37_646),
    "ntu120_xsub": Shape("ntu25", 120, 90, 63_026),
    "ntu120_xset": Shape("ntu25", 120, 90, 54_468),
    "utd_mhad": Shape("kinect20", 27, 68, 431),
    "msr_action3d": Shape("kinect20", 20, 39, 291),
    "kinder_gator": Shape("kinect20", 47, 155, 1_159),
    "tennis": Shape("kinect20", 7, 56, 195),
}
"""By protocol. Counts are those of the published splits; tests hold NTU's to the published lists. The tennis clips have
no published split: these are folds 0 and 1 of the clips that could be had."""


def shape_of(protocol: str) -> Shape:
    """The shape of a protocol's clips; raises ShapeError where it isn't known."""
    if protocol in SHAPES:
        return SHAPES[protocol]
    raise ShapeError(
        f"how large the data of protocol '{protocol}' is isn't known; give --data STORE, or one of the protocols "
        f"{', '.join(SHAPES)}"
    )


def write_made_store(folder: Path, config: TrainConfig, batches: int) -> Store:
    """So many batches of noise in the shape of the recipe's training clips, everybody present: the worst case.

    Raises:
        ShapeError: see :func:`shape_of`.
    """
    shape, protocol = shape_of(config.protocol), get_protocol(config.protocol)
    layout = LAYOUTS[shape.layout]
    fields: dict[str, Any] = {protocol.axis: sorted(protocol.train)[0] if protocol.train else "1"}
    random = np.random.default_rng(0)
    size = (config.data.persons, shape.frames, layout.num_joints, layout.dims)
    clips = (
        Sample(
            sample_id=f"made {number}",
            label=number % shape.classes,
            joints=random.standard_normal(size, np.float32),
            present=np.ones(size[:2], bool),
            frame_index=np.arange(shape.frames, dtype=np.int32),
            **fields,
        )
        for number in range(batches * config.optim.batch_size)
    )
    names = [f"class {number}" for number in range(shape.classes)]
    about = {"made": True}
    write_store(folder, clips, layout=layout, class_names=names, protocol=protocol.name, provenance=about)
    return Store(folder)


class MadeCrops(CropCache):
    """Crops that are grey all over, without a video and without a file."""

    def get(self, store: Store, i: int, video_folder: Path | None) -> ClipCrops:
        """Those of one clip; making them costs about what reading them from memory costs."""
        crops = empty_crops(self.config, int(store.lengths[i]))
        crops.parts[:], crops.scene[:] = 128, 128
        crops.part_mask[:], crops.scene_mask[:] = True, True
        return crops


def make_trainer(config: TrainConfig, stores: Store | Sequence[Store], folder: Path) -> Trainer:
    """A trainer of the recipe on real or made clips, whose videos aren't needed; ``folder`` is an empty one.

    In phase 2 the recipe's ``model``, ``data`` and ``fusion`` say what the network of skeletons is like, which gets
    fresh weights, whatever ``phase1`` says.
    """
    store = stores if isinstance(stores, Store) else stores[0]
    if config.looks_at_video:
        split = get_protocol(config.protocol or store.protocol)
        spec = ModelSpec(
            config.model, config.data, store.layout, store.class_names, split.name, None, config.fusion
        )
        ActionModel(spec.build(), spec).save_pretrained(folder / "phase1")
        config = dataclasses.replace(config, phase1=str(folder / "phase1"))
    trainer = Trainer(config, stores, folder, videos=folder)
    if isinstance(trainer.phase, VideoPhase):
        trainer.phase.cache = MadeCrops(config=config.roi)
        trainer.dataset = trainer.phase.dataset(trainer.rows)
    return trainer
