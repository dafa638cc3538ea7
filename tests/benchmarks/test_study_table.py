from __future__ import annotations

import random
from statistics import mean

import numpy as np
import pytest
from study_table import (
    EACH,
    FUSED,
    Hits,
    difference,
    headings_and_lines,
    markdown,
    stream_headings_and_lines,
    summary,
    top1,
)


def make_hits(seed: int, share: float, sizes: tuple[int, ...] = (40, 60), seeds: int = 2) -> Hits:
    rng = np.random.default_rng(seed)
    return {(fold, s): rng.random(size) < share for fold, size in enumerate(sizes) for s in range(seeds)}


def plain_difference(row: Hits, default: Hits, clips: dict[int, list[int]]) -> float:
    """The definition, with loops: over the drawn clips of each fold, then seeds, then folds."""
    folds = []
    for fold, drawn in clips.items():
        seeds = [s for f, s in row if f == fold and (f, s) in default]
        points = [
            100 * mean(int(row[fold, s][i]) - int(default[fold, s][i]) for i in drawn) for s in sorted(seeds)
        ]
        folds.append(mean(points))
    return mean(folds)


def test_difference_and_interval_are_those_of_a_plain_paired_bootstrap() -> None:
    row, default = make_hits(1, 0.8), make_hits(2, 0.7)
    sizes = {0: 40, 1: 60}
    found = difference(row, default)
    assert found is not None
    everything = {fold: list(range(size)) for fold, size in sizes.items()}
    assert found[0] == pytest.approx(plain_difference(row, default, everything))

    dice = random.Random(3)
    draws = [
        plain_difference(row, default, {k: dice.choices(range(n), k=n) for k, n in sizes.items()})
        for _ in range(2000)
    ]
    # The draws differ; a percentile of 2,000 of them is good to about a third of a point here.
    assert found[1] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.7)


def test_an_equal_gain_on_every_clip_is_certain_a_mixed_one_is_not() -> None:
    default = {(0, 0): np.array([False, True, False, True]), (1, 0): np.array([True, False])}
    found = difference({key: ~hit for key, hit in default.items()}, default)
    assert found is not None
    assert found[0] == 0.0
    assert found[1][0] < -20  # half of the clips are won and half lost, so it hangs on the draw
    everywhere = {key: np.zeros_like(hit) for key, hit in default.items()}
    better = difference({key: np.ones_like(hit) for key, hit in default.items()}, everywhere)
    assert better == (pytest.approx(100.0), (pytest.approx(100.0), pytest.approx(100.0)))


def test_only_folds_and_seeds_of_both_are_compared() -> None:
    row, default = make_hits(1, 0.8), make_hits(2, 0.7)
    fewer = {key: hit for key, hit in row.items() if key == (1, 0)}
    found = difference(fewer, default)
    assert found is not None
    assert found[0] == pytest.approx(100 * (row[1, 0].mean() - default[1, 0].mean()))
    assert difference({(7, 7): row[0, 0]}, default) is None


def test_folds_weigh_the_same_whatever_their_size() -> None:
    hits = {(0, 0): np.array([True]), (1, 0): np.zeros(9, bool), (1, 1): np.ones(9, bool)}
    assert top1(hits) == ({0: 100.0, 1: 50.0}, 75.0)


def test_table_has_a_line_a_row_and_blanks_for_what_is_missing() -> None:
    default = make_hits(2, 0.7)
    hits = {"default": {FUSED: default}, "a": {FUSED: {(0, 0): ~default[0, 0]}}, "b": {FUSED: {}}}
    rows = summary(hits, dict.fromkeys(hits, "default"))
    for figures in rows.values():
        figures["parameters"] = 1234
    headings, lines = headings_and_lines(rows)
    share = 100 * default[0, 0].mean()
    gain = 100 - 2 * share
    assert headings == ["row", "weights", "fold 0", "fold 1", "mean", "difference", "95 % interval", "runs"]
    assert lines[0][5:] == ["", "", "4"]
    assert lines[1][:6] == ["a", "1,234", f"{100 - share:.2f}", "", f"{100 - share:.2f}", f"{gain:+.2f}"]
    assert lines[2] == ["b", "1,234", "", "", "", "", "", "0"]
    assert rows["a"]["runs"]["fold0-seed0"]["difference"] == pytest.approx(gain)
    text = markdown(headings, lines).splitlines()
    assert len(text) == 5
    assert {line.count("|") for line in text} == {9}


def test_every_row_is_compared_with_its_own_baseline() -> None:
    hits = {name: {FUSED: make_hits(seed, share)} for seed, (name, share) in enumerate(NAMES.items())}
    rows = summary(hits, {"a-0": "a-0", "a-1": "a-0", "b-0": "b-0", "b-1": "b-0"})
    for name in NAMES:
        found = rows[name]["difference"]
        if name.endswith("0"):
            assert found is None
        else:
            gain = rows[name]["mean"] - rows[f"{name[0]}-0"]["mean"]
            assert found["mean"] == pytest.approx(gain)


NAMES = {"a-0": 0.5, "a-1": 0.7, "b-0": 0.8, "b-1": 0.6}


def test_streams_have_figures_of_their_own_and_together() -> None:
    before = {FUSED: make_hits(1, 0.8), "joint": make_hits(2, 0.6), "bone": make_hits(3, 0.5)}
    after = {FUSED: make_hits(4, 0.9), "joint": make_hits(5, 0.7), "bone": make_hits(6, 0.6)}
    rows = summary({"off": before, "on": after}, {"off": "off", "on": "off"})
    for row in rows.values():
        row["parameters"] = 0
    streams = rows["on"]["streams"]
    assert list(streams) == ["joint", "bone", EACH]
    for name in ("joint", "bone"):
        found = difference(after[name], before[name])
        assert found is not None
        assert streams[name]["mean"] == pytest.approx(top1(after[name])[1])
        assert streams[name]["difference"] == {"mean": found[0], "interval": list(found[1])}
    together = streams[EACH]
    assert together["mean"] == pytest.approx(np.mean([streams[name]["mean"] for name in ("joint", "bone")]))
    gains = [streams[name]["difference"]["mean"] for name in ("joint", "bone")]
    assert together["difference"]["mean"] == pytest.approx(np.mean(gains))
    low, high = together["difference"]["interval"]
    assert low < together["difference"]["mean"] < high
    # A clip that is drawn brings both streams' outcomes: the same answers in both leave the interval as it is.
    same = dict.fromkeys(("joint", "bone"), after["joint"])
    others = dict.fromkeys(("joint", "bone"), before["joint"])
    twice = summary({"off": {FUSED: {}} | others, "on": {FUSED: {}} | same}, {"off": "off", "on": "off"})
    found = difference(after["joint"], before["joint"])
    assert found is not None
    assert twice["on"]["streams"][EACH]["difference"]["interval"] == pytest.approx(found[1])

    headings, lines = stream_headings_and_lines(rows | {"alone": {"streams": {"bone": streams["bone"]}}})
    assert headings == ["row", "joint", "bone", EACH]
    assert lines[0] == ["off", *(f"{rows['off']['streams'][name]['mean']:.2f}" for name in headings[1:])]
    low, high = streams["joint"]["difference"]["interval"]
    shown = f"{streams['joint']['mean']:.2f} ({gains[0]:+.2f}, {low:+.2f}..{high:+.2f})"
    assert lines[1][1] == shown
    assert lines[2] == ["alone", "", lines[1][2], ""]


def test_the_test_clips_stand_where_folds_would() -> None:
    hits = {(None, seed): np.arange(4) < 2 + seed for seed in (0, 1)}
    rows = summary({"off": {FUSED: hits}}, {"off": "off"})
    rows["off"]["parameters"] = 5
    assert list(rows["off"]["runs"]) == ["all-seed0", "all-seed1"]
    headings, lines = headings_and_lines(rows)
    assert headings[2:4] == ["test", "mean"]
    assert lines[0][2:4] == ["62.50", "62.50"]
