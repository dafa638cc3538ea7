"""Made annotation files of pyskl's form."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np


def annotation(
    name: str, label: Any, *, joints: int = 17, dims: int = 2, persons: int = 1, frames: int = 4
) -> dict[str, Any]:
    """One clip; its numbers depend on its name alone."""
    rng = np.random.default_rng(list(name.encode()))
    shape = (persons, frames, joints)
    keypoint = (rng.random((*shape, dims)) * (1000 if dims == 2 else 2) + 0.1).astype(np.float16)
    made = {"frame_dir": name, "label": label, "keypoint": keypoint, "total_frames": frames}
    if dims == 2:
        made["img_shape"] = made["original_shape"] = (1080, 1920)
        made["keypoint_score"] = (rng.random(shape) * 0.9 + 0.05).astype(np.float16)
    return made


def hrnet(clips: int = 6) -> dict[str, Any]:
    """A file as pyskl's ``ntu60_hrnet.pkl``: named as NTU's clips, two splits side by side."""
    names = [f"S{1 + n % 2:03d}C{1 + n % 3:03d}P{1 + n % 4:03d}R001A{1 + n:03d}" for n in range(clips)]
    made = [annotation(name, n, persons=1 + n % 2) for n, name in enumerate(names)]
    split = {"xsub_train": names[::2], "xsub_val": names[1::2]}
    split |= {"xview_train": names[:3], "xview_val": names[3:]}
    return {"split": split, "annotations": made}


def put_pickle(file: Path, content: Any, protocol: int = 2) -> Path:
    file.write_bytes(pickle.dumps(content, protocol))
    return file
