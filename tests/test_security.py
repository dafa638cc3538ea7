"""No file of a user's can make the package run code: the source holds no way to, and files that try get a refusal."""

from __future__ import annotations

import ast
import pickle
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.sample import Sample, SampleError

SOURCE = Path(__file__).parents[1] / "src/hhmnet"

CHECKED_WEIGHTS = {"models/backbones.py"}
"""Reads published weights whose SHA-256 it knows, and no others; names pickle's exception."""
OWN_PROCESSES = {"prepare/workers.py"}
"""Unpickles an exception that it has just pickled, to see whether another process could."""
KNOWS_PICKLE = {"readers/unpickling.py", *CHECKED_WEIGHTS, *OWN_PROCESSES}
"""The first reads pickles by Python's unpickler with functions of its own for a few names, and refuses the others."""
PROGRAMS = {"training/logs.py": "git", "pose/networks.py": "sys.executable"}
"""Who starts programs, and which: git on the package's own folder, and pip for the networks that find joints."""

RUNS_CODE = {"eval", "exec", "compile", "__import__", "extractall", "extract"}
UNPICKLERS = "pickle cPickle _pickle cloudpickle dill joblib shelve marshal jsonpickle"
STARTS = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}
FORBIDDEN = """
    pickle.load pickle.loads pickle.Unpickler marshal.loads np.load numpy.load torch.load hub.load jit.load
    pd.read_pickle yaml.load yaml.load_all yaml.unsafe_load yaml.full_load os.system os.popen os.execv os.startfile
    subprocess.getoutput shutil.unpack_archive
"""


def ways_to_run_code(file: Path) -> list[str]:
    """Lines of a module that could run what a file says."""
    own, nodes, found = file.relative_to(SOURCE).as_posix(), list(ast.walk(ast.parse(file.read_text()))), []
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        is_list = isinstance([*call.args, None][0], ast.List | ast.Name)
        allowed = dict.fromkeys(STARTS, own in PROGRAMS and is_list) | {
            "torch.load": own in CHECKED_WEIGHTS and words.get("weights_only") == "True",
            "yaml.load": words.get("Loader") in ("yaml.BaseLoader", "yaml.SafeLoader"),
            "pickle.loads": own in OWN_PROCESSES,
        }
        is_method = isinstance(call.func, ast.Attribute) and name.endswith((".extractall", ".extract"))
        is_loose = words.get("shell", "False") != "False" or words.get("allow_pickle", "False") != "False"
        if is_method or is_loose or name in RUNS_CODE or not allowed.get(name, name not in FORBIDDEN.split()):
            found.append(f"{own}, line {call.lineno}: {name}")
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    if own not in KNOWS_PICKLE and set(UNPICKLERS.split()) & {name.partition(".")[0] for name in imported}:
        found.append(f"{own} imports an unpickler")
    return found


def test_the_source_has_no_way_to_run_what_a_file_says() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 90
    assert [way for file in files for way in ways_to_run_code(file)] == []


def test_the_search_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    lines = """import pickle|from dill import loads|eval(text)|archive.extractall(folder)|np.load(file)|torch.load(file)
        |np.load(file, allow_pickle=True)|yaml.load(text, Loader=yaml.Loader)|yaml.load(text)|subprocess.run(words)
        |os.system(line)|start(line, shell=True)"""
    for line in lines.split("|"):
        (tmp_path / "a.py").write_text(f"{line.strip()}\n")
        assert len(ways_to_run_code(tmp_path / "a.py")) == 1, line


class Payload:
    """Whoever unpickles this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return subprocess.check_call, (["touch", str(self.mark)],)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def payloads(mark: Path) -> dict[str, bytes]:
    """One attack in each form in which Python programs keep objects."""
    array, several, poses, weights = (BytesIO() for _ in range(4))
    np.save(array, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    np.savez(several, joints=np.array([Payload(mark)], dtype=object))
    np.savez(poses, positions_3d=np.array(Payload(mark), dtype=object))
    torch.save({"weight": Payload(mark)}, weights)
    return {
        "pkl": pickle.dumps({"split": {"xsub_train": ["a"]}, "annotations": [Payload(mark)]}),
        "npy": array.getvalue(),
        "npz": several.getvalue(),
        "poses.npz": poses.getvalue(),
        "pt": weights.getvalue(),
        "yaml": f"optim: !!python/object/apply:subprocess.check_call [[touch, {mark}]]\n".encode(),
    }


def test_the_attacks_work_where_nobody_minds(payloads: dict[str, bytes], mark: Path) -> None:
    loose = partial(np.load, allow_pickle=True)
    unsafe = {"pkl": pickle.load, "npy": loose, "pt": partial(torch.load, weights_only=False)}
    unsafe |= {
        "npz": lambda file: loose(file)["joints"],
        "poses.npz": lambda file: loose(file)["positions_3d"],
    }
    for form, load in unsafe.items():
        load(BytesIO(payloads[form]))
        assert mark.exists(), form
        mark.unlink()


FOLDER = "prepare folder --source source --out out --jobs 1"
RESUME = "train --resume --config recipe.yaml --data store --out run"


@pytest.mark.parametrize(
    ("form", "file", "words"),
    [
        ("npy", "source/wave/clip.npy", FOLDER),
        ("npz", "source/wave/clip.npz", FOLDER),
        ("npy", "clip.npy", "predict run clip.npy"),
        ("poses.npz", "clip.npz", "predict run clip.npz"),
        ("poses.npz", "data_3d.npz", "prepare arrays --source data_3d.npz --out out --jobs 1"),
        ("npz", "clip.npz", "predict run clip.npz"),
        ("pkl", "all.pkl", "prepare pyskl --source all.pkl --out out --jobs 1"),
        *(
            (form, f"run/{name}", "evaluate run --data store")
            for form in ("pkl", "pt")
            for name in ("model.safetensors", "config.json")
        ),
        ("pkl", "run/checkpoint.safetensors", RESUME),
        ("pt", "run/checkpoint.safetensors", RESUME),
        ("pkl", "made/samples.arrow", "inspect made"),
        ("yaml", "mine.yaml", "train --config mine.yaml --data store --out out"),
        ("yaml", "mine.yaml", f"{FOLDER} --layout mine.yaml"),
        ("pkl", "model.onnx", "predict model.onnx source/wave/whole.npy"),
    ],
)
def test_no_command_runs_what_a_file_says(
    form, file, words, payloads, mark, tmp_path, monkeypatch, finished_run, store_folder, recipe
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, "run")
    Path("store").symlink_to(store_folder)
    shutil.copy(recipe, "recipe.yaml")
    Path("source/wave").mkdir(parents=True)
    if "--layout" in words or "onnx" in words:
        np.save("source/wave/whole.npy", np.zeros((4, 20, 3), np.float32))
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_bytes(payloads[form])
    assert main(words.split()) == 2
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["../secret.mp4", "/etc/passwd", "a/../../b.mp4", "..\\b.mp4", "C:\\b.mp4", "a\0.mp4"]
)
def test_a_clips_video_stays_in_its_folder(name: str) -> None:
    """A store, or a table, that somebody else made can't have files read that it has no business with."""
    joints = np.ones((1, 2, 20, 3), np.float32)
    with pytest.raises(SampleError, match="field 'video': must be a path inside the folder of videos"):
        Sample("a", 0, joints, np.ones((1, 2), bool), np.arange(2, dtype=np.int32), video=name)


@pytest.mark.parametrize("place", ["../secret.bin", "absolute"])
def test_an_exported_model_takes_its_weights_from_no_other_folder(place: str, tmp_path: Path) -> None:
    """ONNX can keep weights in files beside the model; a name that climbs out would read any file into them."""
    onnx = pytest.importorskip("onnx", reason="the extra 'export' isn't installed")
    pytest.importorskip("onnxruntime", reason="the extra 'export' isn't installed")
    from hhmnet.predict.engines import OnnxEngine, OnnxModelError

    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (tmp_path / "model").mkdir()
    weight = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    where = str(tmp_path / "secret.bin") if place == "absolute" else place
    for key, value in (("location", where), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [4]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    file = tmp_path / "model/model.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxModelError, match="no ONNX file that onnxruntime can run"):
        OnnxEngine(file)
