"""Protocols: which clips train, which test, and which part of the training clips is held out for validation.

A protocol is a rule over one attribute of a clip (camera, subject or setup), never a list of clips.
Validation groups lie along the same axis as the test's shift, inside the training data; nothing ever selects
on test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hhmnet.store import Store

PARTS = ("train", "val", "test", "all")


class ProtocolError(ValueError):
    """A protocol, part or fold that does not exist, or a store that does not fit it."""


@dataclass(frozen=True)
class Protocol:
    """One published split.

    Attributes:
        name: as in a store's metadata.
        axis: the attribute that decides: ``camera``, ``subject`` or ``setup``.
        test: values of the attribute whose clips are tested.
        folds: groups of training values; fold k validates on group k and trains on the others.
        source: where the split was published.
    """

    name: str
    axis: str
    test: frozenset[str]
    folds: tuple[frozenset[str], ...]
    source: str

    def indices(self, store: Store, part: str, fold: int | None = None) -> np.ndarray:
        """Positions of a part's clips in the store, in the store's order.

        Args:
            store: an opened store.
            part: ``train``, ``val``, ``test`` or ``all``.
            fold: with a fold, ``train`` leaves out that fold's group and ``val`` is that group. Without one,
                ``train`` is the whole training data and ``val`` is empty.

        Raises:
            ProtocolError: for an unknown part or fold.
        """
        if part not in PARTS:
            raise ProtocolError(f"unknown split '{part}'; known: {', '.join(PARTS)}")
        if fold is not None and not 0 <= fold < len(self.folds):
            raise ProtocolError(f"protocol {self.name} has folds 0 to {len(self.folds) - 1}, got {fold}")
        values = {"camera": store.cameras, "subject": store.subjects, "setup": store.setups}[self.axis]
        test = np.isin(values, sorted(self.test))
        held = np.zeros_like(test) if fold is None else np.isin(values, sorted(self.folds[fold])) & ~test
        chosen = {"train": ~test & ~held, "val": held, "test": test, "all": np.ones_like(test)}[part]
        return np.flatnonzero(chosen)


NW_UCLA_CROSS_VIEW = Protocol(
    name="nw_ucla_cross_view",
    axis="camera",
    test=frozenset({"3"}),
    folds=(frozenset({"2"}), frozenset({"1"})),
    source="Wang et al., Cross-view action modeling, learning and recognition, CVPR 2014",
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (NW_UCLA_CROSS_VIEW,)}


def get_protocol(name: str) -> Protocol:
    """A protocol by name; raises ProtocolError with the known names."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise ProtocolError(f"unknown protocol '{name}'; known: {', '.join(PROTOCOLS)}") from None
