"""Protocols: which clips train, which test, and which part of the training clips is held out for validation.

A protocol is a rule over one attribute of a clip (camera, subject, setup, or the names of the published parts it
belongs to), never a list of clips. Validation groups lie inside the training data, along the same axis as the test's
shift where that axis allows it; nothing ever selects on test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hhmnet.store import Store

PARTS = ("train", "val", "test", "all")
AXES = ("camera", "subject", "setup", "split")
PYSKL = "pyskl:"


class ProtocolError(ValueError):
    """A protocol, part or fold that does not exist, or a store that does not fit it."""


@dataclass(frozen=True)
class Protocol:
    """One published split.

    A clip's ``split`` is a list of names, separated by spaces: there a rule applies to a clip if any of its names is
    among the rule's. The other attributes are one value each.

    Attributes:
        name: as in a store's metadata.
        axis: the attribute that decides: ``camera``, ``subject``, ``setup`` or ``split``.
        test: values of the attribute whose clips are tested.
        folds: groups of values on the folds' axis; fold k validates on group k and trains on the others.
        source: where the split was published.
        train: values of the attribute whose clips train; None if all that aren't tested do. What is in neither is
            only in ``all``.
        fold_axes: where the folds lie; of several, on the first of which two training clips have different values.
            Empty: on ``axis``.
        auto_folds: make so many folds of whatever values the training clips have: the values, sorted, are dealt
            out like cards. Fewer values give as many folds as there are values; clips that have none are never
            held out.
        val: names (of the axis ``split``) of a published validation part. If any training clip has one, these clips
            are the only fold.
        val_is_test: where no clip has a ``test`` value, ``val`` is what is tested.
    """

    name: str
    axis: str
    test: frozenset[str]
    source: str
    folds: tuple[frozenset[str], ...] = ()
    train: frozenset[str] | None = None
    fold_axes: tuple[str, ...] = ()
    auto_folds: int = 0
    val: frozenset[str] = frozenset()
    val_is_test: bool = False

    def indices(self, store: Store, part: str, fold: int | None = None) -> np.ndarray:
        """Positions of a part's clips in the store, ``(K,)`` int64, ascending.

        Args:
            store: opened store; only the attributes of its clips are looked at.
            part: ``train``, ``val``, ``test`` or ``all``.
            fold: with a fold, ``train`` leaves out that fold's group and ``val`` is that group. Without one,
                ``train`` is the whole training data and ``val`` is empty.

        Raises:
            ProtocolError: for an unknown part or fold, and where the protocol names the values that train and
                no clip has any of its values.
        """
        if part not in PARTS:
            raise ProtocolError(f"unknown split '{part}'; known: {', '.join(PARTS)}")
        each = store.cameras, store.subjects, store.setups, store.splits
        values = dict(zip(AXES, each, strict=True))
        train, test = self._train_and_test(values)
        if self.train is not None and part != "all" and not (train | test).any():
            raise ProtocolError(self._no_clip(values))
        held = np.zeros_like(test)
        if fold is not None:
            groups = self._groups(values, train)
            if not 0 <= fold < len(groups):
                needed = " or ".join(self.fold_axes or (self.axis,))
                found = f"folds 0 to {len(groups) - 1}, got {fold}"
                none = f"no folds here: no two training clips differ in their {needed}"
                raise ProtocolError(f"protocol {self.name} has {found if groups else none}")
            held = groups[fold] & train
        chosen = {"train": train & ~held, "val": held, "test": test, "all": np.ones_like(test)}[part]
        return np.flatnonzero(chosen)

    def labels(self, store: Store, relabel: Mapping[str, str]) -> np.ndarray:
        """The store's labels ``(N,)`` int64, with other classes for some training clips.

        Args:
            store: opened store.
            relabel: by sample_id, the name of the class that a clip shows, or "" to leave the clip out (label -1).
                Clips that the store doesn't hold are passed over, so that a recipe fits a part of its data set too.

        Raises:
            ProtocolError: a clip that tests, or a class that the store doesn't know.
        """
        labels = store.labels.copy()
        wanted = np.flatnonzero(np.isin(store.sample_ids, list(relabel)))
        tests = np.intersect1d(wanted, self.indices(store, "test")) if len(wanted) else wanted
        if len(tests):
            raise ProtocolError(
                f"field 'relabel' names {store.sample_ids[tests[0]]}, which is a test clip: take it out"
            )
        numbers = {name: number for number, name in enumerate(store.class_names)} | {"": -1}
        for row in wanted:
            name = relabel[str(store.sample_ids[row])]
            if name not in numbers:
                raise ProtocolError(
                    f"field 'relabel' gives {store.sample_ids[row]} the class '{name}'; "
                    f"the store has {', '.join(store.class_names)}"
                )
            labels[row] = numbers[name]
        return labels

    def _train_and_test(self, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Which clips train and which are tested, each ``(N,)`` bool; none does both."""
        test = _has(values, self.axis, self.test)
        if self.val_is_test and not test.any():
            test = _has(values, self.axis, self.val)
        if self.train is None:
            return ~test, test
        return _has(values, self.axis, self.train | self.val) & ~test, test

    def _groups(self, values: Mapping[str, np.ndarray], train: np.ndarray) -> list[np.ndarray]:
        """Every fold's clips, ``(N,)`` bool each."""
        if (published := train & _has(values, self.axis, self.val)).any():
            return [published]
        axes = self.fold_axes or (self.axis,)
        if not self.auto_folds:
            return [_has(values, axes[0], group) for group in self.folds]
        for axis in axes:
            known = _in_order(set(values[axis][train].tolist()) - {""})
            if len(known) > 1:
                return [_has(values, axis, group) for group in dealt(known, self.auto_folds)]
        return []

    def _no_clip(self, values: Mapping[str, np.ndarray]) -> str:
        wanted = ", ".join(_in_order((self.train or frozenset()) | self.test | self.val))
        names = {name for value in np.unique(values[self.axis]).tolist() for name in value.split()}
        found = _in_order(names)
        shown = ", ".join(found[:20]) + (", …" if len(found) > 20 else "") if found else "none"
        return f"protocol {self.name} goes by {self.axis}, and no clip has one of {wanted}; the clips have {shown}"


def dealt(values: Iterable[str], groups: int) -> tuple[frozenset[str], ...]:
    """Values dealt out like cards to so many groups, or to as many as there are values."""
    cards = list(values)
    return tuple(frozenset(cards[first::groups]) for first in range(min(groups, len(cards))))


def _has(values: Mapping[str, np.ndarray], axis: str, wanted: frozenset[str]) -> np.ndarray:
    """Which clips have one of the wanted values on an axis, ``(N,)`` bool."""
    if axis != "split":
        return np.isin(values[axis], sorted(wanted))
    # A data set has few different splits, but a hundred thousand clips.
    found, which = np.unique(values[axis], return_inverse=True)
    return np.array([not wanted.isdisjoint(names.split()) for names in found.tolist()], bool)[which]


def _in_order(values: Iterable[str]) -> list[str]:
    """Values sorted, numbers by their size and before words."""
    return sorted(values, key=lambda value: (0, int(value), value) if value.isdecimal() else (1, 0, value))


def _numbers(*ranges: int | range) -> tuple[str, ...]:
    """Numbers and ranges of them as text."""
    return tuple(str(n) for part in ranges for n in ([part] if isinstance(part, int) else part))


def _sides(
    name: str, axis: str, train: tuple[str, ...], every: tuple[str, ...], folds: int, source: str
) -> Protocol:
    """A protocol that trains on some values and tests on the rest; its folds are dealt from those that train."""
    test = frozenset(every) - frozenset(train)
    return Protocol(name, axis, test, source, dealt(train, folds), train=frozenset(train))


_NTU60 = "Shahroudy et al., NTU RGB+D: A large scale dataset for 3D human activity analysis, CVPR 2016"
_NTU120 = "Liu et al., NTU RGB+D 120: A large-scale benchmark for 3D human activity understanding, TPAMI 2020"
_UTD_MHAD = (
    "Chen, Jafari, Kehtarnavaz, UTD-MHAD: A multimodal dataset for human action recognition, ICIP 2015"
)
_MSR = "Li, Zhang, Liu, Action recognition based on a bag of 3D points, CVPR workshops 2010; its cross-subject test"
_NTU60_TRAIN = _numbers(1, 2, 4, 5, 8, 9, range(13, 20), 25, 27, 28, 31, 34, 35, 38)
_NTU120_TRAIN = _NTU60_TRAIN + _numbers(
    *(45, 46, 47, 49, 50, range(52, 60), 70, 74, 78, range(80, 87), 89, range(91, 96), 97, 98, 100, 103)
)

_PUBLISHED = (
    Protocol(
        name="nw_ucla_cross_view",
        axis="camera",
        test=frozenset({"3"}),
        folds=(frozenset({"2"}), frozenset({"1"})),
        source="Wang et al., Cross-view action modeling, learning and recognition, CVPR 2014",
    ),
    _sides("ntu60_xsub", "subject", _NTU60_TRAIN, _numbers(range(1, 41)), 4, _NTU60),
    _sides("ntu60_xview", "camera", ("3", "2"), ("1", "2", "3"), 2, _NTU60),
    _sides("ntu120_xsub", "subject", _NTU120_TRAIN, _numbers(range(1, 107)), 4, _NTU120),
    _sides("ntu120_xset", "setup", _numbers(range(2, 33, 2)), _numbers(range(1, 33)), 4, _NTU120),
    _sides("utd_mhad", "subject", ("1", "3", "5", "7"), _numbers(range(1, 9)), 2, _UTD_MHAD),
    _sides("msr_action3d", "subject", _numbers(range(1, 11, 2)), _numbers(range(1, 11)), 2, _MSR),
    Protocol(
        name="kinder_gator",
        axis="subject",
        test=frozenset(),
        source="Aloba et al., Kinder-Gator: The UF Kinect database of child and adult motion, Eurographics 2018; it "
        "names no test, so subjects are held out in folds",
        auto_folds=2,
    ),
    Protocol(
        name="tennis",
        axis="split",
        test=frozenset({"2", "fold2"}),
        # Scenes 25 and 14 always train: they hold a third to nearly all of some strokes' training clips.
        folds=(
            frozenset({"19", "29", "34", "36", "44"}),
            frozenset(_numbers(2, 3, 7, 8, 9, 10, 12, 13, 27, 32, 35, 38, 42)),
        ),
        source="folds of the data set; a scene is a court and camera, so validation holds out whole scenes",
        train=frozenset({"0", "1", "fold0", "fold1"}),
        fold_axes=("setup",),
    ),
    Protocol(
        name="given",
        axis="split",
        test=frozenset({"test"}),
        source="the parts that the data set's own files name: test, val if there is any, and all the rest train",
        fold_axes=("subject", "setup"),
        auto_folds=4,
        val=frozenset({"val"}),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _PUBLISHED}


def get_protocol(name: str) -> Protocol:
    """A protocol by name, such as ``ntu60_xsub`` or, for the parts that a pyskl file names, ``pyskl:xsub``.

    Raises:
        ProtocolError: there is none of this name; the message has the known ones.
    """
    if name.startswith(PYSKL):
        return pyskl(name.removeprefix(PYSKL))
    try:
        return PROTOCOLS[name]
    except KeyError:
        known = ", ".join([*PROTOCOLS, f"{PYSKL}NAME"])
        raise ProtocolError(f"unknown protocol '{name}'; known: {known}") from None


def pyskl(split: str) -> Protocol:
    """The protocol of one of the splits that a pyskl or MMAction2 file holds side by side.

    For ``xsub``, clips of the part ``xsub_train`` train and those of ``xsub_test`` are tested, or those of ``xsub_val``
    where there is no ``xsub_test`` (pyskl's NTU files call the test part so). With both, ``xsub_val`` is the only
    validation fold. The empty name stands for ``train``, ``val`` and ``test``; ``1`` also for ``train1`` and ``test1``.
    """

    def part(name: str) -> frozenset[str]:
        return frozenset({f"{split}_{name}", f"{name}{split}"})

    return Protocol(
        name=PYSKL + split,
        axis="split",
        test=part("test"),
        source="the parts that the file names",
        train=part("train"),
        fold_axes=("subject", "setup"),
        auto_folds=4,
        val=part("val"),
        val_is_test=True,
    )
