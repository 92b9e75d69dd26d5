"""How Sphinx builds the site: `bash scripts/docs.sh`.

The site's sources are the repository itself, so that a link means the same on
the site and where the files lie: README.md is a page like those of docs/.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

project = "Perceiver IO in JAX"
author = "The Perceiver IO in JAX authors"
copyright = author  # Sphinx's name for the footer's line.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**"]
exclude_patterns = [".*", "build", "runs", "docs/_*"]
suppress_warnings = ["myst.xref_ambiguous"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "links",
    "reference",
]

smartquotes = False  # They turn --flag into a dash.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # Tests run the notebooks.

# Docstrings are Google's style, and write code in single quotes.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # As they are written.
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False

html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
html_use_index = False  # The search finds names.
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_additional_pages = {"index": "redirect.html"}
linkcheck_timeout = 20
