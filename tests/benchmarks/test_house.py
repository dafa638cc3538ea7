from __future__ import annotations

import json
from pathlib import Path

import house
import pytest

FILES = {
    "src/hhmnet/__init__.py": "from hhmnet.cli import main\n",
    "src/hhmnet/store.py": "import json\n",
    "src/hhmnet/cli.py": "from hhmnet import store\nfrom hhmnet.data import one\n",
    "src/hhmnet/data/__init__.py": "",
    "src/hhmnet/data/one.py": "def f():\n    from hhmnet.data.two import g\n",
    "src/hhmnet/data/two.py": "if TYPE_CHECKING:\n    import hhmnet.data.one\nfrom hhmnet.cli import main\n",
    "tests/test_it.py": "\n\n\n",
    "constraints.txt": "# pins\ntorch==2.13.0\nnumpy==2.3.0\n",
}


def test_a_checkout_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert house.run(house.main, [str(tmp_path), "--json", str(tmp_path / "r.json")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["circle"] == [["hhmnet.cli", "hhmnet.data.one", "hhmnet.data.two"]]
    assert found["up"] == ["hhmnet.data.two -> hhmnet.cli"]
    figures = [found[name] for name in ("src lines", "src modules", "tests lines", "pinned packages")]
    assert figures == [9, 6, 3, 2]
    assert "hhmnet.data.two -> hhmnet.cli" in capsys.readouterr().out
    assert house.run(house.main, [str(tmp_path / "src")]) == 2
    assert "not a checkout" in capsys.readouterr().err
