"""A caller's mistake, whatever the command: exit code 2, one line that names the flag, file or field, nothing made."""

from __future__ import annotations

import pytest

from hhmnet.cli import main
from hhmnet.commands import live
from hhmnet.commands.serve import TOKEN_VARIABLE

TOKEN = "a-token-of-many-letters"
PREPARE = "prepare nw_ucla --source @RAW --out @OUT"
TRAIN = "train --data @STORE --out @OUT --config @RECIPE"
EVALUATE = "evaluate @RUN --data @STORE --out @OUT"
PREDICT = "predict @RUN @CLIP"
FOREIGN = ("0.0.0.0", "::", "192.0.2.1", "some.example")

MISTAKES = {
    "prepare ntu --source @RAW --out @OUT": "unknown reader 'ntu'; known: nw_ucla",
    "prepare nw_ucla": "--source, --out",
    f"{PREPARE} --source @FOLDER/none": "no folder at @FOLDER/none",
    f"{PREPARE} --out @FILE": "@FILE",
    f"{PREPARE} --alignmen x": "unknown flag '--alignmen'; did you mean '--alignment'?",
    f"{PREPARE} --xyzzy": "unknown flag '--xyzzy'; see hhmnet prepare nw_ucla --help",
    f"{PREPARE} --engine steam": "'steam' (choose from ",
    "inspect @STORE --rois x.png": "name it with --sample ID",
    "inspect @STORE --videos .": "--videos goes with --rois",
    "inspect @STORE --sample a --attention @RUN": "--attention draws a picture; name it with --picture FILE.png",
    f"{TRAIN} --fold=9": "fold",
    f"{TRAIN} --config=@FOLDER/none.yaml": "@FOLDER/none.yaml: No such file or directory",
    f"{TRAIN} --data=@FOLDER/none": "no store at @FOLDER/none",
    f"{TRAIN} --out=@FILE": "@FILE: is a file; name a folder",
    "train --out @OUT": "the following arguments are required: --data",
    "train --dry-run": "protocol '' is isn't known; give --data STORE",
    "train --dry-run --phase=2 --protocol=tennis": "has to know the network of skeletons: give --phase1 RUN",
    f"{EVALUATE} --split val": "val needs a fold, such as --fold 0",
    f"{EVALUATE} --split val --fold 7": "has folds 0 to 1, got 7",
    f"{EVALUATE} --split tset": "invalid choice: 'tset'",
    f"{EVALUATE} --protocol gven": "unknown protocol 'gven'",
    f"{EVALUATE} --unknown @STORE": "it can't tell what is unknown, as it was trained without a fold",
    f"{PREDICT} --topp 3": "unknown flag '--topp'; did you mean '--top'?",
    f"{PREDICT} --every often": "field 'every' must be a whole number; got 'often'",
    f"{PREDICT} --window 2": "--window goes with --timeline",
    f"{PREDICT} --modality sound": "invalid choice: 'sound'",
    f"{PREDICT} --modality video": "looks at skeletons alone",
    f"{PREDICT} more.mp4 --timeline out": "--timeline takes one recording; 2 were given",
    f"{PREDICT} --timeline out --leave 0.9": "field 'leave' must be at most enter",
    f"{PREDICT} --timeline out --overlay out.mp4": "without --timeline",
    f"{PREDICT} --engine ray": "--engine and --jobs go with --out DIR",
    f"{PREDICT} --out answers --timeline lines": "--out takes many clips",
    "predict a.onnx @CLIP --timeline out": "--timeline and --overlay need the model's folder",
    "predict a.onnx @CLIP --device cuda": "an ONNX file runs on the CPU",
    "live @RUN --source 987": "/dev/video987: there is no such camera",
    "live @RUN --source nowhere.mp4": "nowhere.mp4",
    "live @RUN --source 0 --as-fast-as-possible": "its own rate",
    "live @RUN --source rtsp://a/b --loop": "--loop is for files",
    "live @RUN --source a.mp4 --every 0": "not a number from 1",
    **{f"serve @RUN --host {host}": "from other computers: give a --token" for host in FOREIGN},
    "serve @RUN --token short": "16 characters",
    "serve @RUN --port 70000": "not a port",
    "serve @RUN --workers 0": "field 'workers'",
    "serve @RUN --video_second 3": "did you mean '--video_seconds'?",
    **{f"serve @RUN --host={host} --token {TOKEN}": "can't listen" for host in ("", "x" * 80, "é" * 80)},
    "export @RUN --out model.pt": "'model.pt' must end in .onnx",
    "export @RUN --out model.onnx --clips 0": "'0' is not a number from 1",
    "bench --rounds=0": "argument --rounds: '0' is not a number from 1",
    "evaluate zoo/nw_ucla/stst-joint --data --": "argument --data: expected one argument",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line(
    words, finished_run, store_folder, raw_folder, recipe, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setattr(live, "VideoPoseEstimator", lambda config: None)
    (tmp_path / "file").touch()
    places = {"@RUN": finished_run, "@STORE": store_folder, "@RAW": raw_folder, "@RECIPE": recipe}
    places |= {"@CLIP": next(raw_folder.glob("a*.json")), "@FOLDER": tmp_path}
    places |= {"@OUT": tmp_path / "out", "@FILE": tmp_path / "file"}
    message = MISTAKES[words]
    for name, place in places.items():
        words, message = words.replace(name, str(place)), message.replace(name, str(place))
    assert main(words.split()) == 2
    said = capsys.readouterr()
    *_, last = said.err.splitlines()
    assert last.startswith(f"hhmnet {words.split()[0]}: error: ")
    assert message in last
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
