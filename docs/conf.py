"""How `make docs` builds the pages."""

from importlib.metadata import version as installed
from typing import Any

project = "hhmnet"
author = "the hhmnet authors"
release = installed("hhmnet")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"hhmnet {release}"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Links to files of the repository that are no pages; languages that the colouring does not know.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def _link_results(app: Any, name: str, text: list[str]) -> None:
    """Lead links to the results' files, which a reader of the files follows, to the pages that include them."""
    text[0] = text[0].replace("](../results/", "](results/")


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _link_results)
