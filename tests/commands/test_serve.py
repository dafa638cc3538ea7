"""``hhmnet serve``, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.commands.serve import _listen

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

TOKEN = "a-token-of-many-letters"


def test_a_client_is_heard_before_the_server_has_loaded_its_model() -> None:
    with _listen("127.0.0.1", 0) as listening:
        socket.create_connection(listening.getsockname(), timeout=60).close()


def test_serves_a_trained_model_until_it_is_told_to_end(
    finished_run: Path, raw_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [sys.executable, "-m", "hhmnet", "serve", str(finished_run), "--port", "0", "--no-page"]
    words += ["--device", "cpu", "--token", TOKEN, "--videos", "false"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ) as server:
        assert server.stderr is not None
        address = None
        for line in server.stderr:
            found = re.search(r"(http://\S+) is ready", line)
            if found:
                address = found[1]
                break
        try:
            assert address is not None
            headers = {"Authorization": f"Bearer {TOKEN}"}
            request = urllib.request.Request(f"{address}/api/v1/model", headers=headers)
            with urllib.request.urlopen(request, timeout=1200) as response:
                classes = json.load(response)["classes"]
            clip = next(
                file for file in sorted(raw_folder.rglob("*.json")) if b"skeletons" in file.read_bytes()
            )
            body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="my clip.json"\r\n\r\n'
            body += clip.read_bytes() + b"\r\n--b--\r\n"
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            request = urllib.request.Request(f"{address}/api/v1/predict", body, headers | kind)
            with urllib.request.urlopen(request, timeout=1200) as response:
                answer = json.load(response)
            assert answer["input"] == "my clip.json"
            assert answer["label"] in classes
            assert main(["predict", str(finished_run), str(clip), "--json"]) == 0
            (alone,) = json.loads(capsys.readouterr().out)
            assert alone.keys() == answer.keys()
            assert alone["votes"] == answer["votes"]
            for name, part in alone["members"].items():
                assert answer["members"][name] == pytest.approx(part, abs=1e-5)
        finally:
            server.send_signal(signal.SIGTERM)
        assert "ended" in server.stderr.read()
    assert server.returncode == 0
