"""One encoder that learns from several stores, with a head for each."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from short_run import CERTAIN, assert_same_runs, make_config, make_run, make_video_config, train_in_slices

from hhmnet.cli import main
from hhmnet.data.dataset import StoresError
from hhmnet.evaluation.scores import Scores, score
from hhmnet.losses import LossConfig, mutual_distillation
from hhmnet.models.pretrained import PretrainedError, from_pretrained
from hhmnet.skeleton import COCO17, KINECT20
from hhmnet.store import Store, write_store
from hhmnet.training.engine import Hooks, TrainingError
from hhmnet.training.logs import EpochLog
from hhmnet.training.phases import PhaseError

NAMES = "tiny", "other"


@pytest.fixture(scope="session")
def other(tmp_path_factory, make_sample):
    """18 clips of two classes, one of which the tiny store has too, of five subjects; the last one has no label."""
    samples = [make_sample(n, label=n % 2) for n in range(40, 58)]
    samples[-1] = dataclasses.replace(samples[-1], label=-1)
    folder = tmp_path_factory.mktemp("stores") / "other"
    about = {"class_names": ("nod", "sit"), "protocol": "given", "provenance": {}}
    write_store(folder, samples, layout=KINECT20, **about)
    return Store(folder)


@pytest.fixture(scope="session")
def both(tiny_store, other):
    return [tiny_store, other]


@pytest.mark.parametrize("stream", ["joint", "joint+bone"])
def test_a_clips_loss_is_its_own_heads(both, tmp_path, stream):
    loss = LossConfig(contrast=0.0, distill=0.5 * ("+" in stream))
    config = make_config(**CERTAIN, stream=stream, label_smoothing=0.2, loss=loss)
    trainer = make_run(tmp_path, config, both)
    rows = [0, 1, 20, 3, 36, 21]  # of both sets, one batch
    batch = trainer.dataset.__getitems__(rows)
    labels = torch.from_numpy(trainer.labels)[batch.index]
    assert (labels < 3).tolist() == [True, True, False, True, False, False]
    shares = torch.nn.functional.one_hot(labels, 5).float()
    inputs, shares = trainer.phase.inputs(batch, shares, trainer.generator)
    output = trainer.network.train()(*inputs)
    found, _ = trainer.phase.loss(output, shares)
    expected = torch.tensor(0.0)
    for logits in getattr(output, "each", [output.logits]):
        for row, label in zip(logits, labels.tolist(), strict=True):
            own, label = (row[:3], label) if label < 3 else (row[3:], label - 3)
            target = torch.tensor(label)
            expected = expected + torch.nn.functional.cross_entropy(own, target, label_smoothing=0.2) / 6
    if "+" in stream:
        expected = expected + 0.5 * mutual_distillation(output.each, shares, 4.0, [3, 2])
    torch.testing.assert_close(found, expected)


def test_a_run_cut_in_slices_measures_each_set_and_ends_the_same(both, tmp_path):
    """With mixup, two loader processes and validation on both sets; and every step has clips of both."""
    logs: list[EpochLog] = []
    config = make_config(fold=0, batch_size=8, workers=1)
    trainer = make_run(tmp_path / "whole", config, both, Hooks(on_epoch=logs.append))
    assert set(trainer.store.sample_ids[trainer.rows]) == {
        *both[0].sample_ids[both[0].cameras == "1"],
        *both[1].sample_ids[:-1][~np.isin(both[1].subjects[:-1], ["0", "4"])],
    }
    sets = [{int(trainer.rows[i] >= 30) for i in batch} for batch in trainer.sampler]
    assert sets == [{0, 1}] * len(sets)
    trainer.train()
    assert train_in_slices(tmp_path / "cut", config, both, [2, 4]) == [2, 4]
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")
    each = []
    for store, protocol in zip(both, trainer.protocols, strict=True):
        model = from_pretrained(tmp_path / "whole", store=store)
        assert model.spec.class_names == store.class_names
        assert (model.spec.protocol, model.spec.fold) == (protocol.name, 0)
        scores = score(model, store, protocol.indices(store, "val", 0))
        each.append(100 * scores.right[scores.labels >= 0].mean())
    assert logs[-1].val_top1 == pytest.approx(np.mean(each))
    with pytest.raises(TrainingError, match="was started with another stores"):
        make_run(tmp_path / "whole", config, both[::-1]).resume()


def test_the_commands_take_several_stores(both, recipe, tmp_path, capsys):
    run, data = tmp_path / "run", ["--data", *(str(store.path) for store in both)]
    words = ["train", "--config", str(recipe), "--protocol", "nw_ucla_cross_view+", *data]
    words += ["--relabel", '{"clip000": "wave"}']
    assert main([*words, "--dry-run"]) == 0
    assert "training clips │ 37 │" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--out", str(run)]) == 0
    said = capsys.readouterr().err
    facts = json.loads((run / "environment.json").read_text())["store"]
    assert (facts["name"], facts["clips"], len(facts["provenance"])) == ("tiny+other", 48, 2)
    whole = from_pretrained(run, all_heads=True).eval()
    for number, (store, name) in enumerate(zip(both, NAMES, strict=True)):
        measure = ["evaluate", str(run), "--data", str(store.path)]
        assert f"hhmnet {' '.join(measure)}" in said
        assert main([*measure, "--split", "all"]) == 0
        scores = Scores.load(run / f"eval-all-{name}" / "scores.parquet")
        assert scores.class_names == store.class_names
        logits = score(whole, store, np.arange(len(store))).logits
        np.testing.assert_allclose(scores.logits, (logits[:, :3], logits[:, 3:])[number], atol=1e-6)
    # A head that is named is measured in the run's folder, and by the run's corrected labels.
    assert main(["evaluate", f"{run}#tiny", "--data", str(both[0].path), "--split", "train"]) == 0
    scores = Scores.load(run / "eval-train-tiny" / "scores.parquet")
    assert scores.labels[scores.sample_ids == "clip000"] == both[0].class_names.index("wave")
    assert from_pretrained(f"{run}#other").spec.class_names == ("nod", "sit")
    clip = tmp_path / "clip.npz"
    np.savez(clip, joints=both[1].joints(0))
    capsys.readouterr()
    assert main(["predict", str(run), str(clip)]) == 2
    assert f"several heads, of which one is to be named: {run}#tiny, {run}#other" in capsys.readouterr().err
    assert main(["predict", f"{run}#other", str(clip), "--json"]) == 0
    top = json.loads(capsys.readouterr().out)[0]["top"]
    assert {one["label"] for one in top} == {"nod", "sit"}
    for head, code in (("other", 0), ("tiny", 2)):
        assert main(["predict", f"{run}#{head}", str(clip), "--out", str(tmp_path / "answers")]) == code
    assert "holds answers of another model" in capsys.readouterr().err


def test_what_is_refused(both, tmp_path, make_sample, write_clips):
    def of(*stores: Store, **changed: object) -> None:
        make_run(tmp_path / "run", make_config(**changed), stores)

    same = write_clips(tmp_path / "tiny", [make_sample(n) for n in range(9)])
    with pytest.raises(StoresError, match="names two stores called 'tiny': a head is named after"):
        of(both[0], same)
    flat = [dataclasses.replace(one, joints=one.joints[:, :, :17, :2]) for one in map(make_sample, range(6))]
    about = {"class_names": ("a", "b", "c"), "protocol": "given", "provenance": {}}
    write_store(tmp_path / "flat", flat, layout=COCO17, **about)
    with pytest.raises(StoresError, match=r"has the joints of coco17, .* those of kinect20"):
        of(both[0], Store(tmp_path / "flat"))
    with pytest.raises(TrainingError, match="field 'protocol' names 1 for 2 stores"):
        of(*both, protocol="given")
    with pytest.raises(PhaseError, match="several stores, but phase 2 learns from one"):
        make_run(tmp_path / "run", make_video_config("nowhere"), both)
    make_run(tmp_path / "two", make_config(epochs=1), both).train()
    message = r"several heads, none with the classes of .*flat: .*#tiny, .*#other"
    with pytest.raises(PretrainedError, match=message):
        from_pretrained(tmp_path / "two", store=Store(tmp_path / "flat"))
    with pytest.raises(PretrainedError, match="no head 'third'; the model has tiny, other"):
        from_pretrained(f"{tmp_path / 'two'}#third")
