"""A model of one's own from a few examples a class: a trained model's encoders, and new heads fitted to them.

Nothing is trained. A clip's embeddings are computed once: the encoders' features of every joint. The new head is ridge
regression on them (scikit-learn's RidgeCV). Being linear it becomes the streams' classifiers, so the result is a model
like any other. ``results/transfer.md`` says what else was tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from scipy.special import log_softmax
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from hhmnet.confidence import fit_confidence
from hhmnet.data.dataset import to_clips
from hhmnet.data.protocols import ProtocolError, get_protocol
from hhmnet.data.transform import prepare
from hhmnet.fields import plain_name
from hhmnet.files import replacing
from hhmnet.models.homogeneous import HomogeneousNetwork
from hhmnet.models.hub import EXAMPLES_FILE
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.spec import USUAL_RATE
from hhmnet.models.stst import STST
from hhmnet.predict.engines import Engine, TorchEngine
from hhmnet.predict.sources import Input, InputClip, InputError, Sources, find_inputs, frame_times
from hhmnet.readers.labels import PART_WORDS
from hhmnet.readers.listed import count_endings
from hhmnet.sample import Sample
from hhmnet.store import SAMPLES_FILE, Store

BATCH = 32
"""Clips that are embedded at once."""
FEWEST = 2
"""Clips of a class; of fewer leave-one-out leaves none."""

_STRENGTH = 0.1
"""Of the regularisation, as a share of the mean squared length of an embedding. Leave-one-out would take less: another
clip of the same person tells nothing of how persons differ."""
_SCALES = np.logspace(0, 2, 41)


class Examples(NamedTuple):
    """N clips that a head is fitted to: names of the classes, labels and lengths ``(N,)`` int64, in frames of which a
    second has 30, embeddings ``(N, S, D)`` float32 of S streams, D channels of all joints."""

    class_names: tuple[str, ...]
    labels: np.ndarray
    embeddings: np.ndarray
    lengths: np.ndarray

    def joined(self, other: Examples) -> Examples:
        """These and those of other classes; raises InputError: a class is in both, or other encoders made them."""
        if self.embeddings.shape[1:] != other.embeddings.shape[1:]:
            raise InputError("made by other encoders: give the examples of all classes, without --add")
        names = (*self.class_names, *other.class_names)
        check_names(names)
        labels = np.concatenate([self.labels, other.labels + len(self.class_names)])
        arrays = zip(self[2:], other[2:], strict=True)
        return Examples(names, labels, *(np.concatenate(pair) for pair in arrays))


class Head(NamedTuple):
    """A linear classifier of embeddings: weights ``(K, S, D)``, bias ``(K,)``.

    ``held_out`` are the logits ``(N, K)`` of every example by a head that hasn't seen it.
    """

    weight: np.ndarray
    bias: np.ndarray
    held_out: np.ndarray


def find_examples(folder: Path, tell: Callable[[str], None] = lambda line: None) -> dict[str, list[Input]]:
    """The clips of a folder with a folder for each class, or the training clips of a store, by class.

    ``tell`` is called with a line on what isn't used: files that are no clips or lie beside the folders, classes of a
    store without training clips. Raises InputError: there is no such folder, one of a class holds no clip, two have one
    name, they are parts of a split, or the store says nothing of training clips.
    """
    if (folder / SAMPLES_FILE).is_file():
        store, inputs = Store(folder), find_inputs([folder])
        try:
            rows = get_protocol(store.protocol).indices(store, "train")
        except ProtocolError as error:
            raise InputError(f"{folder}: {error}") from None
        found = {
            name: [inputs[row] for row in rows[store.labels[rows] == label]]
            for label, name in enumerate(store.class_names)
        }
        if empty := [name for name, own in found.items() if not own]:
            tell(f"{folder}: left out, for want of training clips: {', '.join(empty)}")
        return {name: own for name, own in found.items() if own}
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give one with a folder for each class")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise InputError(f"{folder}: holds no folders; make one for each class, with its clips")
    names = [path.name for path in classes]
    if {*map(str.lower, names)} <= PART_WORDS.keys():
        parts = ", ".join(names)
        raise InputError(f"{folder}: its folders are parts of a data set, {parts}: give the training part")
    check_names(names)
    if beside := [path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."]:
        tell(f"{folder}: passed over, as they lie in no class's folder: {count_endings(beside)}")
    return {path.name: find_inputs([path], tell) for path in classes}


def check_names(names: Sequence[str], remedy: str = "rename one") -> None:
    """Raise InputError where two classes have one name, but for case, blanks and Unicode form."""
    seen: dict[str, str] = {}
    for name in names:
        key = plain_name(name)
        if key in seen:
            raise InputError(f"two classes are named alike: '{seen[key]}' and '{name}'; {remedy}")
        seen[key] = name


def encoders_of(engine: Engine) -> ActionModel:
    """The model whose encoders embed clips; raises InputError for an exported one."""
    if not isinstance(engine, TorchEngine):
        raise InputError("an exported model has no encoders to build on; give the model's folder")
    return engine.model


def embed(model: ActionModel, samples: Sequence[Sample]) -> np.ndarray:
    """Embeddings ``(N, S, D)`` of samples in the model's joints; the model is in eval mode afterwards."""
    model, found, seen = model.skeleton.eval(), list[Tensor](), list[Tensor]()
    device, data = next(model.parameters()).device, model.spec.data
    heads = [encoder.classifier for encoder in _encoders(model.network)]
    hooks = [head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for head in heads]
    try:
        for first in range(0, len(samples), BATCH):
            some = samples[first : first + BATCH]
            clips = to_clips([clip.joints for clip in some], [clip.present for clip in some], data.persons)
            seen.clear()
            with torch.inference_mode():
                model.network(*prepare(clips.to(device), model.spec.layout, data))
            found.append(torch.stack(seen, 1).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(found).numpy()


def length(clip: InputClip, rate: float = USUAL_RATE) -> int:
    """How long a clip lasts, in 30ths of a second; ``rate`` is of skeletons whose video isn't looked at."""
    return max(round(USUAL_RATE * frame_times(clip, rate)[1]), 1)


def read_examples(
    model: ActionModel,
    sources: Sources,
    inputs: Mapping[str, Sequence[Input | str | Path]],
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
    fewest: int = 2,
    rate: float = USUAL_RATE,
) -> tuple[Examples, dict[str, str]]:
    """The clips of every class, read and embedded, and why clips are left out, by name.

    ``progress`` is called with how many are read, of how many; ``tell`` with what is odd about a clip that is taken;
    ``rate`` is that of skeletons whose video isn't looked at.
    Raises InputError where there are less than ``fewest`` classes, or a class has too few clips that can be read.
    """
    if len(inputs) < fewest:
        raise InputError(f"classes with clips: {', '.join(inputs) or 'none'}; telling apart takes two")
    labels, lengths, failed = list[int](), list[int](), dict[str, str]()
    embeddings, done, total = list[np.ndarray](), 0, sum(map(len, inputs.values()))
    for label, clips in enumerate(inputs.values()):
        samples = []
        for clip in clips:
            try:
                found = sources.read(clip)
                if not found.sample.present.any():
                    raise InputError(f"{found.name}: nobody is found in it")
                lengths.append(length(found, rate))
                samples.append(found.sample)
                for note in found.notes:
                    tell(f"{found.name}: {note}")
            except InputError as error:
                failed[clip.name if isinstance(clip, Input) else str(clip)] = str(error)
            done += 1
            progress(done, total)
        labels += [label] * len(samples)
        embeddings += [embed(model, samples)] if samples else []
    for label, name in enumerate(inputs):
        if (count := labels.count(label)) < FEWEST:
            why = f" ({next(iter(failed.values()))})" if failed else ""
            raise InputError(f"class '{name}' has {count} clips that can be used; give {FEWEST} or more{why}")
    taken = np.array(labels), np.concatenate(embeddings), np.array(lengths)
    return Examples(tuple(inputs), *taken), failed


def fit_head(examples: Examples, weights: np.ndarray) -> Head:
    """Ridge regression on embeddings, the scale of its logits by leave-one-out.

    What each stream counts, ``weights (S,)``, is kept: one that counts nothing gets no part.
    """
    n = len(examples.labels)
    x = examples.embeddings.astype(np.float64)
    mean = x.mean(0)
    x = x - mean
    spread = x.std(0) + 1e-3 * x.std() + 1e-9  # a channel that hardly varies gets no voice by that
    factor = np.where(weights > 0, np.sqrt(weights), 0.0)[:, None] / spread
    flat = (x * factor).reshape(n, -1)
    targets = np.eye(len(examples.class_names))[examples.labels]
    strength = max(_STRENGTH * (flat**2).sum() / n, 1e-9)  # also where all examples are one clip
    # A scoring is named so that the outcomes themselves are kept, not their squared errors.
    ridge = RidgeCV([strength], scoring="r2", store_cv_results=True).fit(flat, targets)
    held_out = ridge.cv_results_[..., 0]  # each example by all others
    # Sure of a class as far as so many examples allow, by the rule of succession (Platt 1999, section 2.2): where all
    # are right, the largest logits would be the best otherwise.
    sure = (np.bincount(examples.labels) + 1) / (np.bincount(examples.labels) + 2)
    wanted = np.where(targets > 0, sure, (1 - sure[examples.labels, None]) / (len(sure) - 1))
    loss = -(wanted * log_softmax(_SCALES[:, None, None] * held_out, axis=-1)).sum(-1).mean(-1)
    scale = _SCALES[loss.argmin()]
    weight = scale * ridge.coef_.reshape(-1, *factor.shape) * factor
    bias = scale * ridge.intercept_ - np.einsum("ksd,sd->k", weight, mean)
    return Head(weight, bias, scale * held_out)


def enrolled(model: ActionModel, examples: Examples, protocol: str = "") -> tuple[ActionModel, Head]:
    """A model of skeletons that tells the examples' classes apart, with copies of the encoders that embedded them.

    ``protocol`` is by which rule the examples are the training clips of a store, if they are.
    """
    made = _with_new_heads(model, examples.class_names, protocol).cpu()
    weights = np.ones(1)
    if isinstance(made.network, HomogeneousNetwork):
        weights = made.network.weights.numpy().astype(np.float64)
    head = fit_head(examples, weights)
    logits = np.einsum("nsd,ksd->nk", examples.embeddings, head.weight) + head.bias
    made.spec = dataclasses.replace(
        made.spec,
        clip_frames=int(np.median(examples.lengths)),
        clip_rate=USUAL_RATE,
        # With a temperature, though the logits are scaled: that scale doubts too much (results/sure.md).
        confidence={"skeleton": fit_confidence(head.held_out, examples.labels, logits, own=True)},
    )
    for number, encoder in enumerate(_encoders(made.network)):
        with torch.no_grad():
            # The streams' logits are summed by weight, so each has its part over that.
            part = head.weight[:, number] / (weights[number] or 1.0)
            encoder.classifier.weight.copy_(torch.from_numpy(part))
            encoder.classifier.bias.copy_(torch.from_numpy(head.bias))
    return made, head


def _with_new_heads(model: ActionModel, class_names: Sequence[str], protocol: str = "") -> ActionModel:
    """A copy of a model's skeleton side whose classifiers are new."""
    model = model.skeleton
    spec = dataclasses.replace(
        model.spec,
        class_names=tuple(class_names),
        protocol=protocol,
        fold=None,
        heads=(),
        confidence={},
    )
    made = ActionModel(spec.build(), spec)
    known = model.network.state_dict()
    kept = {name: value for name, value in known.items() if "classifier." not in name}
    made.network.load_state_dict(kept, strict=False)
    return made.to(next(model.parameters()).device).eval()


def _encoders(network: nn.Module) -> list[STST]:
    return [module for module in network.modules() if isinstance(module, STST)]


def save_examples(examples: Examples, folder: Path) -> None:
    """Write what classes can be added to later, beside the model's weights."""
    arrays = dict(zip(Examples._fields[1:], examples[1:], strict=True))
    with replacing(folder / EXAMPLES_FILE) as file:
        file.write(save(arrays))


def load_examples(folder: Path, class_names: tuple[str, ...]) -> Examples:
    """The examples of an enrolled model's folder; raises InputError: it has none, or they aren't this model's."""
    file = folder / EXAMPLES_FILE
    if not file.is_file():
        raise InputError(
            f"{folder}: has no {EXAMPLES_FILE}, so hhmnet enroll didn't make it and no class can be added; give the "
            "examples of all classes, without --add"
        )
    try:
        arrays = load_file(file)
        labels, embeddings, lengths = (arrays[name] for name in Examples._fields[1:])
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(f"{file}: not the examples of an enrolled model ({error})") from None
    fits = embeddings.ndim == 3 and 0 < len(labels) == len(embeddings) == len(lengths)
    if not fits or labels.min() < 0 or labels.max() >= len(class_names):
        raise InputError(f"{file}: not the examples of this model")
    return Examples(class_names, labels, embeddings, lengths)
