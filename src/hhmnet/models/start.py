"""Where training starts: encoders of another model, stream by stream and joint by joint.

Its classifiers come along where they tell the same classes apart; new ones begin at zero.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel, PretrainedError
from hhmnet.models.stst import STST

_HEADS = ("classifier.", "part_head.", "scene_head.")
_BY_JOINT = {"joint_embedding": (1,), "graph": (1, 2), "others_graph": (1, 2)}
"""Axes of an encoder's tensors that count joints."""


def zero_heads(network: nn.Module) -> None:
    """Set the weights of all classifiers to zero, above encoders that know something already.

    A classifier of chance weights makes noise of what they know, and the first steps teach them to be silent: a video
    network then stays at chance for a hundred steps. From zero the classifier moves first.
    """
    for name, value in network.named_parameters():
        if value.dim() == 2 and any(head in name for head in _HEADS):
            nn.init.zeros_(value)


def start_from(model: ActionModel, source: ActionModel) -> list[str]:
    """Copy a model's skeleton encoders into another's; projections stay as they are.

    Classifiers of the same classes come along: beginning at zero above encoders that know the classes costs ten points
    where clips are few (results/transfer.md). Others begin at zero. What the source lacks begins anew: a stream, joints
    of another layout, parts that its encoders were built without.

    Args:
        model: a model of skeletons, one stream or several; its network is changed.
        source: any model; it stays as it is.

    Returns:
        A line for each stream: what was taken, and what is new.

    Raises:
        PretrainedError: no stream or no joint is in both, joints have more coordinates in one, or a layer has another
            size.
    """
    ours, theirs = model.spec.data.streams, source.spec.data.streams
    if not set(ours) & set(theirs):
        raise PretrainedError(
            f"it has the streams {', '.join(theirs)}; field 'data.stream' is {'+'.join(ours)}"
        )
    layout, other = model.spec.layout, source.spec.layout
    if layout.dims != other.dims:
        raise PretrainedError(f"its joints have {other.dims} coordinates, the store's {layout.dims}")
    if not set(layout.joints) & set(other.joints):
        raise PretrainedError(
            f"its joints ({other.name}) and the store's ({layout.name}) have no name in common"
        )
    same = model.spec.class_names == source.spec.class_names and layout.joints == other.joints
    lines = []
    for stream in ours:
        if stream not in theirs:
            lines.append(f"{stream}: new; the model has {', '.join(theirs)}")
            continue
        encoder, known = model.single(stream).network, source.single(stream).network
        assert isinstance(encoder, STST)
        assert isinstance(known, STST)
        zero_heads(encoder)
        lines.append(f"{stream}: {_take_encoder(encoder, known, same)}")
    return lines


def start_video(model: ActionModel, source: ActionModel) -> list[str]:
    """Copy a phase-2 model's video network into another's; its heads stay as they are, new.

    Args:
        model: a model with video; its network is changed.
        source: another.

    Returns:
        One line that says what was taken.

    Raises:
        PretrainedError: the source has no video, or a video network of another kind.
    """
    if not isinstance(source.network, HeterogeneousNetwork):
        raise PretrainedError("it is a model of skeletons alone: it has no video network to start from")
    assert isinstance(model.network, HeterogeneousNetwork)
    config, other = model.network.config, source.network.config
    if config.backbone != other.backbone:
        raise PretrainedError(
            f"its video network is {other.backbone}; field 'heterogeneous.backbone' is {config.backbone}"
        )
    values = source.network.video.state_dict()
    taken = {name: value for name, value in values.items() if not name.startswith(_HEADS)}
    model.network.video.load_state_dict(taken, strict=False)
    return [f"video: {len(taken)} tensors taken; new: the classifier, and the projections of the contrast"]


def _take_encoder(encoder: STST, known: STST, classifier: bool) -> str:
    """Copy all, or all but the classifier, of the joints that both have; says what was taken, and what is new."""
    names, others = encoder.layout.joints, known.layout.joints
    shared = [name for name in names if name in others]
    ours, theirs = [names.index(name) for name in shared], [others.index(name) for name in shared]
    values, taken, lacking = known.state_dict(), 0, set[str]()
    for name, target in encoder.state_dict().items():
        part = name.rpartition(".")[2]
        if name.startswith(_HEADS) and not classifier:
            continue
        if name not in values:
            lacking.add(part)
            continue
        value, axes = values[name], _BY_JOINT.get(part, ())
        if name.startswith("input_norm.") and value.ndim:
            # Channels of the input norm are coordinates, and in each the joints.
            dims = encoder.layout.dims
            target, value, axes = target.view(dims, -1), value.view(dims, -1), (1,)
        if part == "distance_bias":  # one number a distance, and layouts differ in the longest
            longest = min(target.shape[1], value.shape[1])
            target, value = target[:, :longest], value[:, :longest]
        here, there = (
            np.ix_(*(joints if axis in axes else range(size) for axis, size in enumerate(x.shape)))
            for joints, x in ((ours, target), (theirs, value))
        )
        if target[here].shape != value[there].shape:
            raise PretrainedError(
                f"its '{name}' has the shape {list(value.shape)}, this network's {list(target.shape)}: give the "
                "section 'model' the values that stand in its config.json"
            )
        target[here] = value[there]
        taken += 1
    new = [] if classifier else ["the classifier"]
    if lacking:
        new.append(f"what the model was built without ({', '.join(sorted(lacking))})")
    text = f"{taken} tensors taken" + (f"; new: {', and '.join(new)}" if new else "")
    if len(shared) < len(names):
        text += f"; joints that the model doesn't know: {', '.join(n for n in names if n not in others)}"
    return text
