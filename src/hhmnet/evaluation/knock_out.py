"""What a trained model leans on: its parts are taken away one at a time, and the clips that this costs are counted.

What a part hands on is replaced within a ``with`` block, at one method or tensor each: ``REDMT.dynamic_mask``,
``similarity`` and ``attention``, ``SKTC.weights``, ``HeterogeneousNetwork.cell_weights``, the streams' ``weights``, and
the masks of ``VideoNetwork``'s pictures. None of it changes what the backbone makes of pictures, and what is replaced
around the encoders leaves alone what they say, so each batch of clips has that computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hhmnet.evaluation.metrics import DRAWS
from hhmnet.evaluation.scores import ask_batches
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.re_dmt import REDMT
from hhmnet.models.sk_tc import SKTC
from hhmnet.models.stst import STST
from hhmnet.models.video_net import VideoNetwork
from hhmnet.store import Store

WHOLE = ""
"""The whole model among its parts."""
Blocks = dict[str, Callable[[], AbstractContextManager[None]]]
"""By a part's name the block within which the model lacks it."""
Change = Callable[[int, Any], Any]
"""From a module's number, and what a method of it returns, to what is to be returned instead."""


def knock_out(answers: Mapping[str, np.ndarray], labels: np.ndarray) -> list[dict[str, Any]]:
    """What each part of a model is worth to its labelled clips.

    Args:
        answers: of :func:`answers_without`.
        labels: ``(N,)``, -1 where unknown.

    Returns:
        By ``part``: ``lost``, the clips that are recognised only with it; ``won``, those only without; ``top1`` without
        it, in percent; ``interval``, the 95 % interval (a paired bootstrap over clips) of the points that it brings.
    """
    known, found = labels >= 0, list[dict[str, Any]]()
    right = {part: (logits.argmax(1) == labels)[known] for part, logits in answers.items()}
    whole, count = right.pop(WHOLE), int(known.sum())
    for part, without in right.items():
        lost, won = int((whole & ~without).sum()), int((without & ~whole).sum())
        shares = np.array([lost, won, count - lost - won]) / count
        drawn = np.random.default_rng(0).multinomial(count, shares, DRAWS)
        interval = np.percentile(100 * (drawn[:, 0] - drawn[:, 1]) / count, [2.5, 97.5]).tolist()
        top1 = 100 * float(without.mean())
        found.append({"part": part, "lost": lost, "won": won, "top1": top1, "interval": interval})
    return found


def answers_without(
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Logits ``(N, classes)`` of the model whole, under ``WHOLE``, and without each part; it is as before afterwards.

    The clips are gone through twice, since what stands for a part may come from all of them. ``progress`` is of the
    second time; other arguments and errors are those of :func:`~hhmnet.evaluation.scores.ask_batches`.
    """
    attentions, encoders, pictures = (modules_of(model, kind) for kind in (REDMT, STST, VideoNetwork))
    note, mean = mean_attention(attentions)
    inner, outer = parts_of(model, mean)

    def asked(inside: Blocks, around: Blocks) -> Iterator[tuple[str, np.ndarray]]:
        def ask(*batch: Any) -> Tensor:
            x, mask, shown, _ = model.inputs(*batch)

            def answers(blocks: Blocks) -> Iterator[Tensor]:
                for block in blocks.values():
                    with block():
                        yield model.classify(x, mask, shown).logits

            with once(pictures, "cells"), once(pictures, "scenes"):
                found = list(answers(inside))
                with once(encoders, "forward"):
                    return torch.stack([*found, *answers(around)])

        batches = list[Tensor]()
        for logits in ask_batches(ask, model, store, indices, **options):
            batches.append(logits)
            if inside:
                progress(sum(part.shape[1] for part in batches), len(indices))
        return zip((*inside, *around), torch.cat(batches, 1).numpy(), strict=True)

    with changed(attentions, "attention", note), unseen(pictures, "cell_mask", "scene_mask"):
        found = dict(asked({}, outer))
    found |= asked(inner, outer if pictures else {})
    return {part: found[part] for part in (WHOLE, *inner, *outer)}


def modules_of(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    """A model's modules of a kind, in order."""
    return [module for module in model.modules() if isinstance(module, kind)]


def parts_of(model: ActionModel, mean: Change) -> tuple[Blocks, Blocks]:
    """The parts that a model has: those inside of its encoders, then, after the whole, those around them.

    Where attention is to be the mean over all clips, it is changed by ``mean``.
    """
    network, config = model.network, model.spec.model
    attentions, kernels = modules_of(model, REDMT), modules_of(model, SKTC)
    inside: Blocks = {}
    if config.mask != "none":
        inside["dynamic mask"] = partial(changed, attentions, "dynamic_mask", lambda n, mask: None)
        inside["dynamic mask, against one at random"] = partial(
            changed, attentions, "dynamic_mask", at_random
        )
    if config.reranking != "none":
        inside["reranking"] = partial(changed, attentions, "similarity", lambda n, j: 0 * j)
    inside["attention, against its mean over clips"] = partial(changed, attentions, "attention", mean)
    if config.select:
        inside["selection of kernels"] = partial(changed, kernels, "weights", lambda n, w: 0 * w + 1 / len(w))
    around: Blocks = {WHOLE: nullcontext}
    for place, name in enumerate(model.members):
        around[name if name == "video" else f"stream {name}"] = partial(weighing_nothing, network, place)
    if isinstance(network, HeterogeneousNetwork):
        if network.config.guidance != "none":
            guided = partial(changed, [network], "cell_weights")
            around["guidance"] = partial(guided, lambda n, w: 0 * w + 1)
            around["guidance, against another clip's"] = partial(guided, guidance_before())
        around["pictures of body parts"] = partial(unseen, [network.video], "cell_mask")
        if network.config.scene:
            around["picture of the scene"] = partial(unseen, [network.video], "scene_mask")
    return inside, around


def static_share(model: ActionModel) -> float:
    """How much of the weight with which a body's joints are mixed is the learned graph's, alike for all clips; 0 to 1.

    The sum of its absolute values over that of graph and attention together, the mean over all heads. It needs no clip:
    a query's attention sums to 1, whatever it falls on.
    """
    shares = []
    for module in modules_of(model, REDMT):
        graph = module.graph.detach().abs().sum((1, 2))
        shares.append(graph / (graph + module.graph.shape[-1] * torch.tanh(module.gate.detach()).abs()))
    return float(torch.cat(shares).mean())


@contextmanager
def replaced(modules: Sequence[nn.Module], method: str, call: Callable[..., Any]) -> Iterator[None]:
    """Let ``call(the module's number, the method, *its arguments)`` answer for a method of modules."""
    for number, module in enumerate(modules):
        setattr(module, method, partial(call, number, getattr(module, method)))
    try:
        yield
    finally:
        for module in modules:
            delattr(module, method)  # the instance's; the class's own shows again


def changed(modules: Sequence[nn.Module], method: str, change: Change) -> AbstractContextManager[None]:
    """Let a method of modules return ``change(the module's number, what it returns)``."""
    return replaced(modules, method, lambda number, own, *inputs: change(number, own(*inputs)))


def once(modules: Sequence[nn.Module], method: str) -> AbstractContextManager[None]:
    """Let a method of modules run once, and return the same at every later call, whatever it is given."""
    kept: dict[int, Any] = {}

    def call(number: int, own: Callable[..., Any], *inputs: Any) -> Any:
        if number not in kept:
            kept[number] = own(*inputs)
        return kept[number]

    return replaced(modules, method, call)


def at_random(number: int, mask: Tensor) -> Tensor:
    """A mask ``(..., H, V, V)`` that leaves each query as much: itself first, then places alike for all clips."""
    places = torch.rand(mask.shape[-3:], generator=torch.Generator().manual_seed(number))
    places.diagonal(dim1=-2, dim2=-1).fill_(2.0)
    rank = places.argsort(-1, descending=True).argsort(-1).to(mask.device)
    return mask.float().sort(-1, descending=True).values.gather(-1, rank.expand(mask.shape)).to(mask.dtype)


def mean_attention(attentions: Sequence[REDMT]) -> tuple[Change, Change]:
    """What notes all bodies' attention, and what then returns the mean of it."""
    sums: list[Any] = [0] * len(attentions)
    counts = [0] * len(attentions)

    def note(number: int, weights: Tensor) -> Tensor:
        sums[number] = sums[number] + weights.double().sum(0)
        counts[number] += len(weights)
        return weights

    def mean(number: int, weights: Tensor) -> Tensor:
        return (sums[number] / counts[number]).to(weights.dtype).expand_as(weights)

    return note, mean


def guidance_before() -> Change:
    """What returns the guidance of the clip before; where the clips come again, the last stands before the first."""
    last: list[Tensor] = []

    def before(number: int, weights: Tensor) -> Tensor:
        found = torch.cat([*last, weights])[: len(weights)]
        last[:] = [weights[-1:]]
        return found

    return before


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
def unseen(videos: Sequence[nn.Module], *masks: str) -> Iterator[None]:
    """Hide some of the pictures from video networks: those that these masks of their input name."""

    def hide(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = {mask: torch.zeros_like(getattr(inputs[0], mask)) for mask in masks}
        return inputs[0]._replace(**hidden), *inputs[1:]

    hooks = [video.register_forward_pre_hook(hide) for video in videos]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
