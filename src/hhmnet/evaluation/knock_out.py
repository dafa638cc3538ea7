"""What a trained model leans on: its parts are taken away one at a time, and the clips that this costs are counted.

What a part hands on is replaced within a ``with`` block, at one method or tensor each: ``REDMT.dynamic_mask``,
``similarity`` and ``attention``, ``SKTC.weights``, ``HeterogeneousNetwork.cell_weights``, the streams' ``weights``, and
the masks of ``VideoNetwork``'s pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hhmnet.evaluation.metrics import DRAWS
from hhmnet.evaluation.scores import Scores
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.re_dmt import REDMT
from hhmnet.models.sk_tc import SKTC

Run = Callable[[], Scores]
"""Scores all clips with the model as it stands, in the same order every time."""
Block = Callable[[], AbstractContextManager[None]]


def knock_out(
    model: ActionModel, run: Run, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[dict[str, Any]]:
    """What each part of a model that ``run`` scores is worth to its labelled clips; afterwards it is as it was.

    Returns:
        By ``part``: ``lost``, the clips that are recognised only with it; ``won``, those only without; ``top1`` without
        it, in percent; ``interval``, the 95 % interval (a paired bootstrap over clips) of the points that it brings.
    """
    whole, found = run(), list[dict[str, Any]]()
    known = whole.labels >= 0
    count, parts = int(known.sum()), parts_of(model, run)
    for part, taken_out in parts.items():
        progress(len(found), len(parts))
        with taken_out():
            without = run()
        lost = int((whole.right & ~without.right)[known].sum())
        won = int((without.right & ~whole.right)[known].sum())
        shares = np.array([lost, won, count - lost - won]) / count
        drawn = np.random.default_rng(0).multinomial(count, shares, DRAWS)
        interval = np.percentile(100 * (drawn[:, 0] - drawn[:, 1]) / count, [2.5, 97.5]).tolist()
        top1 = 100 * float(without.right[known].mean())
        found.append({"part": part, "lost": lost, "won": won, "top1": top1, "interval": interval})
    return found


def parts_of(model: ActionModel, run: Run) -> dict[str, Block]:
    """The parts that a model has, by name, each with the block within which it is taken away."""
    network, config = model.network, model.spec.model
    attentions = [module for module in network.modules() if isinstance(module, REDMT)]
    kernels = [module for module in network.modules() if isinstance(module, SKTC)]
    parts: dict[str, Block] = {}
    if config.mask != "none":
        parts["dynamic mask"] = partial(changed, attentions, "dynamic_mask", lambda n, mask: None)
        parts["dynamic mask, against one at random"] = partial(changed, attentions, "dynamic_mask", at_random)
    if config.reranking != "none":
        parts["reranking"] = partial(changed, attentions, "similarity", lambda n, j: 0 * j)
    parts["attention, against its mean over clips"] = partial(static_attention, attentions, run)
    if config.select and len(config.dilations) > 1:
        parts["selection of kernels"] = partial(changed, kernels, "weights", lambda n, w: 0 * w + 1 / len(w))
    for place, name in enumerate(model.members):
        parts[name if name == "video" else f"stream {name}"] = partial(weighing_nothing, network, place)
    if isinstance(network, HeterogeneousNetwork):
        if network.config.guidance != "none":
            parts["guidance"] = partial(changed, [network], "cell_weights", lambda n, w: 0 * w + 1)
            parts["guidance, against another clip's"] = partial(others_guidance, network, run)
        parts["pictures of body parts"] = partial(unseen, network.video, "cell_mask")
        if network.config.scene:
            parts["picture of the scene"] = partial(unseen, network.video, "scene_mask")
    return parts


def static_share(model: ActionModel) -> float:
    """How much of the weight with which a body's joints are mixed is the learned graph's, alike for all clips; 0 to 1.

    The sum of its absolute values over that of graph and attention together, the mean over all heads. It needs no clip:
    a query's attention sums to 1, whatever it falls on.
    """
    shares = []
    for module in model.network.modules():
        if isinstance(module, REDMT):
            graph = module.graph.detach().abs().sum((1, 2))
            shares.append(graph / (graph + module.graph.shape[-1] * torch.tanh(module.gate.detach()).abs()))
    return float(torch.cat(shares).mean())


@contextmanager
def changed(modules: Sequence[nn.Module], method: str, change: Callable[[int, Any], Any]) -> Iterator[None]:
    """Let a method of modules return ``change(the module's number, what it returns)``."""

    def call(number: int, original: Callable[..., Any], *inputs: Any) -> Any:
        return change(number, original(*inputs))

    for number, module in enumerate(modules):
        setattr(module, method, partial(call, number, getattr(module, method)))
    try:
        yield
    finally:
        for module in modules:
            delattr(module, method)  # the instance's; the class's own shows again


def at_random(number: int, mask: Tensor) -> Tensor:
    """A mask ``(..., H, V, V)`` that leaves each query as much: itself first, then places alike for all clips."""
    places = torch.rand(mask.shape[-3:], generator=torch.Generator().manual_seed(number))
    places.diagonal(dim1=-2, dim2=-1).fill_(2.0)
    rank = places.argsort(-1, descending=True).argsort(-1).to(mask.device)
    return mask.float().sort(-1, descending=True).values.gather(-1, rank.expand(mask.shape)).to(mask.dtype)


@contextmanager
def static_attention(attentions: Sequence[REDMT], run: Run) -> Iterator[None]:
    """Let every body be mixed by the mean of all bodies' attention, chunk by chunk of a clip."""
    sums: list[Any] = [0] * len(attentions)
    counts = [0] * len(attentions)

    def note(number: int, weights: Tensor) -> Tensor:
        each = weights.unflatten(0, (-1, attentions[number].chunks))
        sums[number] = sums[number] + each.double().sum(0)
        counts[number] += len(each)
        return weights

    def mean(number: int, weights: Tensor) -> Tensor:
        one = sums[number] / counts[number]
        return one.repeat(len(weights) // len(one), 1, 1, 1).to(weights.dtype)

    with changed(attentions, "attention", note):
        run()
    with changed(attentions, "attention", mean):
        yield


@contextmanager
def weighing_nothing(network: Any, place: int) -> Iterator[None]:
    """Leave one of a network's members out of its joint answer."""
    weight = network.weights[place].clone()
    network.weights[place] = 0
    try:
        yield
    finally:
        network.weights[place] = weight


@contextmanager
def others_guidance(network: HeterogeneousNetwork, run: Run) -> Iterator[None]:
    """Guide every clip by the weights of the clip before it."""
    given: list[Tensor] = []

    def note(number: int, weight: Tensor) -> Tensor:
        given.append(weight)
        return weight

    with changed([network], "cell_weights", note):
        run()
    turned = iter(torch.cat(given).roll(1, 0).split([len(weight) for weight in given]))
    with changed([network], "cell_weights", lambda n, weight: next(turned)):
        yield


@contextmanager
def unseen(video: nn.Module, mask: str) -> Iterator[None]:
    """Hide some of the pictures from a video network: those that this mask of its input names."""

    def hide(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return inputs[0]._replace(**{mask: torch.zeros_like(getattr(inputs[0], mask))}), *inputs[1:]

    hook = video.register_forward_pre_hook(hide)
    try:
        yield
    finally:
        hook.remove()
