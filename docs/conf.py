"""How `make docs` builds the pages."""

from importlib.metadata import version as installed

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
