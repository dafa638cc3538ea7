"""hhmnet: action recognition from skeletons and video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hhmnet.models.pretrained import ActionModel, from_pretrained
    from hhmnet.predict.recognizer import Recognizer

__version__ = "0.1.0"
__all__ = ["ActionModel", "Recognizer", "__version__", "from_pretrained"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `hhmnet --help` and the readers do without it.
    if name in ("ActionModel", "from_pretrained"):
        from hhmnet.models import pretrained

        return getattr(pretrained, name)
    if name == "Recognizer":
        from hhmnet.predict.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module 'hhmnet' has no attribute '{name}'")
