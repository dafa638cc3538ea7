"""Where a model is: a folder, a file that ``hhmnet export`` wrote, a name of the zoo or of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from hhmnet.confidence import NEIGHBOURS_FILE

ZOO = Path(__file__).parents[3] / "zoo"
"""Trained models of a checkout; a wheel has none."""
EXAMPLES_FILE = "examples.safetensors"
"""Beside an enrolled model's weights: what classes are added to."""
FILES = ("config.json", "config.yaml", "model.safetensors", NEIGHBOURS_FILE, EXAMPLES_FILE)
"""What is taken from the hub: a model as a folder. No code is."""


class HubError(ValueError):
    """A model that is in none of these places."""


def split_head(name: str | Path) -> tuple[str, str]:
    """Model and head of ``FOLDER#HEAD``; the head is empty where none is named, or a folder is called so."""
    model, _, head = (str(name), "", "") if Path(name).exists() else str(name).partition("#")
    return model, head


def find_model(name: str | Path) -> Path:
    """The folder or the ONNX file of a model.

    Args:
        name: a folder, a file ``*.onnx``, a name of the zoo such as ``nw_ucla/homogeneous``, or ``org/name`` of the
            hub, which is taken from the hub's cache (``HF_HUB_CACHE``) where there is no network.

    Raises:
        HubError: the hub has no model of that name, or it can't be reached and its cache has none.
    """
    path = Path(name)
    if path.exists() or path.suffix == ".onnx":
        return path
    if (ZOO / path / FILES[0]).is_file():
        return ZOO / path
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(name)):
        return path  # whoever opens it says that there is nothing
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=list(FILES)))
    except Exception as error:  # of several libraries; all of them mean that it isn't to be had
        reason = " ".join(str(error).split())[:200]
        raise HubError(
            f"{name}: neither a folder nor a model of the zoo, and not to be had from the Hugging Face hub or its "
            f"cache ({reason})"
        ) from None
