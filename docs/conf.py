"""The site: `make docs` builds it into build/docs, with warnings as errors."""

import sys
from pathlib import Path

import fieldmark

sys.path.insert(0, str(Path(__file__).parent))

project = "Fieldmark"
author = "The Fieldmark authors"
project_copyright = author
version = release = fieldmark.__version__

extensions = [
    "command_help",
    "myst_parser",
    "source_files",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "Fieldmark"
html_show_sphinx = False
html_copy_source = False
