"""The ablation script: two rows on two small sets, resumed, and its figures by a slow reference."""

from __future__ import annotations

import json
from statistics import mean

import ablation
import numpy as np
import pytest
from ablation import difference, gains

BASE = """\
protocol: nw_ucla_cross_view+nw_ucla_cross_view
model: {widths: [16], strides: [2], head_width: 8, mask: threshold}
data: {frames: 8, persons: 1}
optim: {epochs: 1, batch_size: 10}
run: {device: cpu}
"""
ROWS = "plain: {}\nno mask: {model.mask: none, model.select: false}\n"


def test_rows_are_trained_once_and_tabled_beside_the_control(
    tiny_store, make_sample, write_clips, tmp_path, capsys
):
    second = write_clips(tmp_path / "second", [make_sample(n) for n in range(40, 58)])
    rows, base, out = tmp_path / "rows.yaml", tmp_path / "base.yaml", tmp_path / "out.jsonl"
    rows.write_text(ROWS)
    base.write_text(BASE)
    words = ["--rows", str(rows), "--config", str(base), "--out", str(out), "--seeds", "0", "--folds", "0"]
    words += ["--data", str(tiny_store.path), str(second.path)]
    ablation.main([*words, "--time-limit", "0.000001s"])
    assert "0 of 2 trainings are there" in capsys.readouterr().err
    ablation.main(words)
    first = out.read_bytes()
    ablation.main(words)
    assert out.read_bytes() == first
    lines = [json.loads(line) for line in first.splitlines()]
    assert [line["row"] for line in lines] == ["plain", "no mask"]
    for line in lines:
        assert ("dynamic mask" in line["right"]) == (line["row"] == "plain")
        for right in line["right"].values():
            assert {name: len(hits) for name, hits in right.items()} == {"tiny": 10, "second": 6}
    share = 100 * mean(hit == "1" for hit in lines[0]["right"][""]["tiny"])
    assert f"{share:.2f}" in capsys.readouterr().out
    with pytest.raises(ablation.BenchmarkError, match=r"row 'plain' was trained with another optim\.lr"):
        ablation.main([*words, "--optim.lr", "0.5"])


def test_gain_and_interval_are_those_of_a_plain_bootstrap_over_clips_and_seeds() -> None:
    rng = np.random.default_rng(0)

    def made(share: float) -> dict[tuple[int, int], dict[str, np.ndarray]]:
        found = {}
        for fold, sizes in enumerate(({"a": 30, "b": 12}, {"a": 20, "b": 18})):
            for seed in range(3):
                hits = {name: rng.random(n) < share + seed / 10 for name, n in sizes.items()}
                found[fold, seed] = {name: hit.astype(int) for name, hit in hits.items()}
        return found

    ours, theirs = made(0.6), made(0.4)
    del theirs[1, 2]  # then the third seed can't be compared
    sets = gains(ours, theirs)
    assert [gain.shape for gain in sets] == [(2, 50), (2, 30)]
    np.testing.assert_array_equal(sets[1][1][12:], ours[1, 1]["b"] - theirs[1, 1]["b"])
    found = difference(sets)
    assert found[0] == pytest.approx(100 * mean(float(gain.mean()) for gain in sets))
    draws = []
    for _ in range(1000):
        seeds, clips = rng.integers(0, 2, 2), [rng.integers(0, gain.shape[1], gain.shape[1]) for gain in sets]
        draws.append(100 * mean(gain[seeds][:, rows].mean() for gain, rows in zip(sets, clips, strict=True)))
    # A percentile of 1,000 draws is good to about a point here.
    assert found[1:] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=2)
