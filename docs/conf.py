"""How `make docs` builds these pages: offline, and every warning an error."""

from typing import Any

import sphinx.ext.napoleon as napoleon
from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

from neucodex_lava import __version__

project = "neucodex-lava"
author = "The neucodex-lava authors"
copyright = "the neucodex-lava authors, BSD-3-Clause"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "code"
html_theme = "furo"
html_title = f"neucodex-lava {version}"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_param = False


class PlainDocstring(GoogleDocstring):
    """Docstrings of properties and constants as text: a colon in them announces no type."""

    def __init__(
        self, docstring: Any, config: Any = None, app: Any = None, what: str = "", *rest: Any
    ) -> None:
        kind = "method" if what in ("attribute", "data", "property") else what
        super().__init__(docstring, config, app, kind, *rest)

    def _parse_attributes_section(self, section: str) -> list[str]:
        """A list, in which `a, b: both` stays one entry."""
        del section
        return self._format_fields("Attributes", self._consume_fields())


def inline_math(writer: Any, node: Any) -> None:
    """Formulas as MathML, which browsers draw themselves: nothing is loaded from elsewhere."""
    writer.body.append(tex2mathml(node.astext()))
    raise SkipNode


def block_math(writer: Any, node: Any) -> None:
    """The same for a formula on a line of its own."""
    writer.body.append(tex2mathml(node.astext(), as_block=True))
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    napoleon.GoogleDocstring = PlainDocstring
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
