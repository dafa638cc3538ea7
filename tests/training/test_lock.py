from __future__ import annotations

import subprocess
import sys

import pytest

from hhmnet.training.lock import LockedError, locked


def test_one_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(LockedError, match="another training is at work"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_another_process_is_kept_out_and_a_dead_one_is_not(tmp_path):
    script = (
        "import sys; from pathlib import Path; from hhmnet.training.lock import locked\n"
        f"with locked(Path({str(tmp_path)!r})):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        with pytest.raises(LockedError), locked(tmp_path):
            pass
        process.kill()
        process.wait()
    with locked(tmp_path):
        pass
