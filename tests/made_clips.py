"""Made clips in NW-UCLA's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NAME = "a08_s03_e01_v02"
LABEL = 7


def clip(name: str = NAME, label: int = LABEL, frames: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(frames)
    joints = rng.normal(size=(frames, 20, 3)).round(6)
    return {"file_name": name, "skeletons": joints.tolist(), "label": label}


def put(folder: Path, content: Any, name: str = NAME) -> Path:
    file = folder / f"{name}.json"
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


TEXT = json.dumps(clip(), indent=1)
CUT = TEXT[: len(TEXT) // 2]
