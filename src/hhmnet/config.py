"""The configuration of a training run: typed dataclasses, filled from a YAML file and command-line flags."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hhmnet.data.augment import AugmentConfig
from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoAugmentConfig, VideoConfig
from hhmnet.fields import one_of, within
from hhmnet.losses import LossConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.homogeneous import FusionConfig
from hhmnet.models.stst import STSTConfig


@dataclass
class OptimConfig:
    """Optimisation."""

    epochs: int = 100
    """Passes over the training clips."""
    batch_size: int = 32
    """Clips a step, of all processes together where several train."""
    optimizer: str = "adamw"
    """adamw or sgd (with Nesterov momentum)."""
    lr: float = 1.5e-3
    """Highest learning rate, reached after the warm-up."""
    encoder_lr: float = 1.0
    """Learning rate of the skeleton encoders, as a share of their classifiers': less where they come from init."""
    backbone_lr: float = 0.1
    """Learning rate of a video backbone, as a share of the others': what is pretrained needs less."""
    min_lr: float = 1e-5
    """Learning rate at the end of the cosine."""
    warmup_epochs: float = 5.0
    """Epochs over which the learning rate rises from 0."""
    weight_decay: float = 0.05
    """Weight decay of weight matrices; biases, norms and attention graphs have none."""
    momentum: float = 0.9
    """Momentum of sgd; the first beta of adamw."""
    label_smoothing: float = 0.1
    """Label smoothing of the cross-entropy."""
    mixup: float = 0.0
    """Alpha of mixup between clips of a batch (Zhang et al. 2018); 0 turns it off."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 turns clipping off."""
    ema: float = 0.0
    """Decay of the weights' exponential moving average, which is then the result; 0 turns it off."""

    def __post_init__(self) -> None:
        one_of(self, "optimizer", ("adamw", "sgd"))
        within(self, 1, math.inf, "epochs", "batch_size")
        within(
            self, 0, math.inf, "lr", "encoder_lr", "backbone_lr", "min_lr", "warmup_epochs", "weight_decay"
        )
        within(self, 0, math.inf, "mixup", "clip_norm")
        within(self, 0, 1, "label_smoothing")
        within(self, 0, math.nextafter(1, 0), "ema", "momentum")


@dataclass
class RuntimeConfig:
    """How a run is carried out; none of it changes what is computed, beyond rounding."""

    seed: int = 0
    """Seed of weights, order, augmentation and dropout."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu or cuda."""
    precision: str = "float32"
    """float32 or bfloat16 (autocast)."""
    compile: bool = False
    """Compile the network with torch.compile; pays for long runs on a GPU."""
    graph: bool = False
    """Record a whole training step as a CUDA graph and replay it; the launches of a small network cost more than its
    arithmetic. Ignored on a CPU, and where several processes train."""
    threads: int = 0
    """CPU threads; 0 leaves torch's default."""
    workers: int = 0
    """Loader processes; 0 loads in the training process, which is fastest for small data sets."""
    checkpoint_every: int = 10
    """Epochs between checkpoints."""
    validate_every: int = 10
    """Epochs between validations; only with a fold. The test clips are never touched in training."""

    def __post_init__(self) -> None:
        one_of(self, "device", ("auto", "cpu", "cuda"))
        one_of(self, "precision", ("float32", "bfloat16"))
        within(self, 0, math.inf, "seed", "threads", "workers")
        within(self, 1, math.inf, "checkpoint_every", "validate_every")


@dataclass
class TrainConfig:
    """Everything that decides a training run, apart from its data and its folder."""

    protocol: str = ""
    """Split of the store into training and test clips; empty takes the one that the store names. For several stores one
    each, joined by +."""
    fold: int | None = None
    """Hold out this fold of the training clips for validation; null trains on all of them."""
    relabel: dict[str, str] = field(default_factory=dict)
    """Other classes for single training clips, by sample_id, where a data set's labels are known to be wrong; an empty
    class leaves the clip out; in a file also the name of a YAML file of them beside it. They hold for training and for
    validation inside it, never for test clips."""
    phase: int | None = None
    """What is trained: 1 a network of skeletons, 2 a video network beside the one of phase1; null is 2 where phase1 is
    given. A recipe of phase 2 says so, so that nobody trains phase 1 by it when phase1 is forgotten."""
    init: str = ""
    """Model whose encoders training starts from, stream by stream and joint by joint: a folder, a name of the zoo, or
    org/name on the hub. Heads of the same classes come along. Where nobody gives the sections model and data they are
    its own. In phase 2 it brings the video network."""
    calibration: str = ""
    """Where no fold is held out: model that says how sure this one may be of its answers, the run of a fold by the same
    recipe. Empty leaves probabilities as they come, and calls no clip unknown."""
    phase1: str = ""
    """Phase 2: folder of the trained model of skeletons, which stays as it is."""
    model: STSTConfig = field(default_factory=STSTConfig)
    """Shape and variants of the encoder."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How several streams are compared and joined."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is added to the cross-entropy."""
    data: DataConfig = field(default_factory=DataConfig)
    """Sampling and normalisation of the clips."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Training-time augmentation."""
    heterogeneous: HeterogeneousConfig = field(default_factory=HeterogeneousConfig)
    """Phase 2: the video network and its guidance."""
    roi: RoiConfig = field(default_factory=RoiConfig)
    """Phase 2: how body parts and persons are cut out of a video."""
    video: VideoConfig = field(default_factory=VideoConfig)
    """Phase 2: how these crops become network input."""
    video_augment: VideoAugmentConfig = field(default_factory=VideoAugmentConfig)
    """Phase 2: training-time augmentation of crops."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation."""
    run: RuntimeConfig = field(default_factory=RuntimeConfig)
    """Device, precision, seed, checkpoints."""

    def __post_init__(self) -> None:
        if self.phase not in (None, 1, 2):
            raise ValueError(f"field 'phase' must be 1 or 2; got {self.phase}")

    @property
    def looks_at_video(self) -> bool:
        """Whether this is a run of phase 2."""
        return self.phase == 2 or (self.phase is None and bool(self.phase1))
