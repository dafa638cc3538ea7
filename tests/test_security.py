"""No file of a user's can make the package run code: the source holds no way to, and files that try get a refusal."""

from __future__ import annotations

import ast
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.sample import Sample, SampleError

SOURCE = Path(__file__).parents[1] / "src/hhmnet"

CHECKED_WEIGHTS = {"models/mobile.py"}
"""Reads published weights whose SHA-256 it knows, and no others; names pickle's exception."""
OWN_PROCESSES = {"prepare/workers.py"}
"""Unpickles what its own worker processes write into a pipe."""
KNOWS_PICKLE = {"readers/unpickling.py", *CHECKED_WEIGHTS, *OWN_PROCESSES}
"""The first reads pickles by Python's unpickler with functions of its own for a few names, and refuses the others."""

PROGRAMS = {"training/logs.py": "git", "pose/networks.py": "sys.executable"}
"""Who starts programs, and which: git on the package's own folder, and pip for the networks that find joints."""

RUNS_CODE = {"eval", "exec", "compile", "__import__"}
UNPICKLERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
}
LOADS = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("pickle", "Unpickler"),
    ("marshal", "loads"),
    ("np", "load"),
    ("numpy", "load"),
    ("torch", "load"),
    ("hub", "load"),
    ("jit", "load"),
    ("pd", "read_pickle"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("os", "system"),
    ("os", "popen"),
    ("os", "execv"),
    ("os", "startfile"),
    ("subprocess", "getoutput"),
    ("shutil", "unpack_archive"),
}


def calls(file: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]


def name_of(call: ast.Call) -> tuple[str, str]:
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        return call.func.value.id, call.func.attr
    return "", call.func.id if isinstance(call.func, ast.Name) else ""


def given(call: ast.Call, name: str) -> str:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), "")


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_the_source_has_no_way_to_run_what_a_file_says(file: Path) -> None:
    own, text = str(file.relative_to(SOURCE)), file.read_text()
    for call in calls(file):
        module, name = name_of(call)
        where = f"line {call.lineno}: {module}.{name}"
        assert module or name not in RUNS_CODE, where
        assert given(call, "shell") in ("", "False"), where
        assert name not in ("extractall", "extract"), where
        assert given(call, "allow_pickle") in ("", "False"), where
        if module == "subprocess" and name in ("run", "Popen", "call", "check_call", "check_output"):
            assert own in PROGRAMS, where
            assert isinstance(call.args[0], ast.List | ast.Name), f"{where}: words, not a line for a shell"
        if (module, name) == ("torch", "load"):
            assert own in CHECKED_WEIGHTS, where
            assert given(call, "weights_only") == "True", where
        elif (module, name) == ("yaml", "load"):
            assert given(call, "Loader") in ("yaml.BaseLoader", "yaml.SafeLoader"), where
        elif (module, name) == ("pickle", "loads"):
            assert own in OWN_PROCESSES, where
        else:
            assert (module, name) not in LOADS, where
    nodes = list(ast.walk(ast.parse(text)))
    names = {
        alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {(node.module or "").partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert own in KNOWS_PICKLE or not UNPICKLERS & names


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
    plain = pickle.dumps({"split": {"xsub_train": ["a"]}, "annotations": [Payload(mark)]})
    array, several, weights = BytesIO(), BytesIO(), BytesIO()
    np.save(array, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    np.savez(several, joints=np.array([Payload(mark)], dtype=object))
    torch.save({"weight": Payload(mark)}, weights)
    command = f"!!python/object/apply:subprocess.check_call [[touch, {mark}]]\n"
    return {
        "pkl": plain,
        "npy": array.getvalue(),
        "npz": several.getvalue(),
        "pt": weights.getvalue(),
        "yaml": f"optim: {command}".encode(),
    }


def test_the_attacks_work_where_nobody_minds(payloads: dict[str, bytes], mark: Path) -> None:
    for form in ("pkl", "npy", "npz", "pt"):
        content = BytesIO(payloads[form])
        if form == "pkl":
            pickle.load(content)
        elif form == "pt":
            torch.load(content, weights_only=False)
        else:
            loaded = np.load(content, allow_pickle=True)
            _ = loaded if form == "npy" else loaded["joints"]
        assert mark.exists(), form
        mark.unlink()


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_skeleton_files(
    form: str, payloads: dict[str, bytes], mark: Path, tmp_path: Path, finished_run: Path
) -> None:
    source = tmp_path / "source"
    (source / "wave").mkdir(parents=True)
    (source / "wave" / f"clip.{form}").write_bytes(payloads[form])
    assert (
        main(["prepare", "folder", "--source", str(source), "--out", str(tmp_path / "store"), "--jobs", "1"])
        == 2
    )
    assert main(["predict", str(finished_run), str(source / "wave" / f"clip.{form}")]) == 2
    assert not mark.exists()


def test_annotation_pickles(payloads: dict[str, bytes], mark: Path, tmp_path: Path) -> None:
    (tmp_path / "ntu.pkl").write_bytes(payloads["pkl"])
    words = ["prepare", "pyskl", "--source", str(tmp_path / "ntu.pkl"), "--out", str(tmp_path / "store")]
    assert main([*words, "--jobs", "1"]) == 2
    assert not mark.exists()


@pytest.mark.parametrize("form", ["pkl", "pt"])
@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint.safetensors", "config.json"])
def test_models_and_checkpoints(
    form: str,
    name: str,
    payloads: dict[str, bytes],
    mark: Path,
    run_copy: Path,
    store_folder: Path,
    recipe: Path,
) -> None:
    (run_copy / name).write_bytes(payloads[form])
    if name == "checkpoint.safetensors":
        words = [
            "train",
            "--resume",
            "--config",
            str(recipe),
            "--data",
            str(store_folder),
            "--out",
            str(run_copy),
        ]
    else:
        words = ["evaluate", str(run_copy), "--data", str(store_folder)]
    assert main(words) == 2
    assert not mark.exists()


def test_stores(payloads: dict[str, bytes], mark: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/samples.arrow").write_bytes(payloads["pkl"])
    assert main(["inspect", str(tmp_path / "store")]) == 2
    assert not mark.exists()


def test_configurations_and_layouts(
    payloads: dict[str, bytes], mark: Path, tmp_path: Path, store_folder: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(payloads["yaml"])
    assert (
        main(["train", "--config", str(file), "--data", str(store_folder), "--out", str(tmp_path / "run")])
        == 2
    )
    source = tmp_path / "source"
    (source / "wave").mkdir(parents=True)
    np.save(source / "wave/clip.npy", np.zeros((4, 20, 3), np.float32))
    words = [
        "prepare",
        "folder",
        "--source",
        str(source),
        "--out",
        str(tmp_path / "store"),
        "--layout",
        str(file),
    ]
    assert main([*words, "--jobs", "1"]) == 2
    assert not mark.exists()


def test_an_exported_model(payloads: dict[str, bytes], mark: Path, tmp_path: Path, raw_folder: Path) -> None:
    pytest.importorskip("onnxruntime", reason="running ONNX files needs pip install 'hhmnet[export]'")
    (tmp_path / "model.onnx").write_bytes(payloads["pkl"])
    assert main(["predict", str(tmp_path / "model.onnx"), str(next(raw_folder.glob("*.json")))]) == 2
    assert not mark.exists()


def test_archives_stay_in_their_folder(tmp_path: Path, raw_folder: Path, finished_run: Path) -> None:
    """An .npz is a zip archive: a name that climbs out of it goes nowhere, since nothing is unpacked."""
    source = tmp_path / "source/wave"
    source.mkdir(parents=True)
    with zipfile.ZipFile(source / "clip.npz", "w") as archive:
        archive.writestr("../../escaped.npy", b"x")
    words = [
        "prepare",
        "folder",
        "--source",
        str(source.parent),
        "--out",
        str(tmp_path / "store"),
        "--jobs",
        "1",
    ]
    assert main(words) == 2
    assert not list(tmp_path.rglob("escaped*"))


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
    from hhmnet.predict.onnx_engine import OnnxEngine, OnnxModelError

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
