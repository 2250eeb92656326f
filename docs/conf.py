"""Sphinx's settings for the site; ``docs/book.py`` stages the pages that it is built from."""

import hashlib
from base64 import b64decode
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.errors import ExtensionError

from aesthemo_lib import __version__

project = "Two judgements of one photograph"
author = "the authors of aesthemo-lib"
copyright = "aesthemo-lib, Apache-2.0"  # noqa: A001  (Sphinx's own name)
version = release = __version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["figures/*.html"]

# Pages are executed before (docs/book.py); here they are only laid out.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # the default loads scripts from elsewhere; a widget needs a kernel anyway
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_update_mathjax = False

# Everything that a page needs is in its folder: book.py puts MathJax there.
mathjax_path = "mathjax/tex-svg-full.js"
mathjax_options = {"defer": "defer"}

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_inherit_docstrings = False  # what torch says of every forward()
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # a class's attributes are described once
nitpicky = True
# Our own public names are checked; other projects' would need their inventories from the network.
nitpick_ignore_regex = [("py:.*", r"(?!aesthemo_lib).*"), ("py:class", r".*\._\w+")]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["extra"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # the search would fetch each page it finds, which a browser refuses for files
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9",
                           "picture-brightness": ".9", "mystnb-source-border-color": "var(--color-background-border)"},
}


def alternative_texts(notebook: Path) -> dict[str, str]:
    """The alternative text of each picture that a notebook shows, by the SHA-256 of its bytes."""
    texts = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {}).get("image/png")
            if data:
                alt = output.metadata.get("image/png", {}).get("alt", "")
                texts[hashlib.sha256(b64decode(data)).hexdigest()] = alt
    return texts


def keep_formulas(app, doctree) -> None:
    """Hand formulas to MathJax as they are written: Sphinx would put one with line breaks where no \\tag may stand."""
    for formula in doctree.findall(nodes.math_block):
        if r"\tag" in formula.astext():
            formula["no-wrap"], text = True, rf"\[{formula.astext()}\]"
            formula.children = [nodes.Text(text)]


def describe_pictures(app, doctree) -> None:
    """Give each picture its alternative text: myst-nb names files by their hash and leaves the text out."""
    source = Path(app.env.doc2path(app.env.docname))
    texts = alternative_texts(source) if source.suffix == ".ipynb" else {}
    for image in doctree.findall(nodes.image):
        image["alt"] = image.get("alt") or texts.get(Path(image["uri"]).stem, "")
        if len(image["alt"]) < 20:
            raise ExtensionError(f"{source.name}: the picture {Path(image['uri']).name} has no alternative text")


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-read", keep_formulas)
    app.connect("doctree-read", describe_pictures, priority=100)  # before Sphinx collects the files
    return {"version": __version__, "parallel_read_safe": True}
