"""Sphinx settings of the site; ``make docs`` builds it into ``docs/_build/``.

Nothing needs a network: formulas become MathML while the site is built, fonts are the reader's.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # generators
sys.path.insert(0, str(Path(__file__).parents[1]))  # dcsnas of this checkout

from dcsnas import __version__
from dcsnas.config.environment import quiet_libraries

quiet_libraries()

project = "dcsnas"
author = "the dcsnas authors"
copyright = "2026, the dcsnas authors"
version = release = __version__

extensions = [
    "generators.facade",
    "generators.formulas",
    "generators.pages",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "generators", "templates"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures: most have no page of their own

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
myst_url_schemes = ["http", "https", "mailto"]
myst_dmath_double_inline = True

highlight_language = "none"  # of blocks that name none: commands and what they print

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"dcsnas {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["messages.js"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"footer_icons": []}
templates_path = ["templates"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

copybutton_prompt_text = re.escape("$ ")
copybutton_prompt_is_regexp = True
