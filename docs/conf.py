"""Sphinx's settings. The source is the repository's root: links between pages and to files are the same here and there.

Pages are plain Markdown, which shows well wherever a repository is read. What only the site has stands in comments:

    <!-- {toctree}                  a directive of MyST
    start
    -->

    <!-- github --> left out of the site <!-- /github -->
"""

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastlstm

sys.path.insert(0, str(Path(__file__).parent))  # languages.py

project = "fastlstm"
author = "the authors of fastlstm"
version = release = fastlstm.__version__
html_title = "fastlstm"

root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/ko/*.md",
    "benchmarks/README.md",
    "examples/c/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [".*", "bindings", "build", "demo-output", "native", "site", "src", "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "languages"]
myst_heading_anchors = 3  # as a repository's pages have them

autodoc_typehints = "none"  # docstrings have shapes, which say more than Any
autodoc_member_order = "bysource"
default_role = "py:obj"  # `name` in a docstring is a link where there is such a name, and code where there is none
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The pages are in docs/, as in the repository; who opens site/ is sent there. `make live` takes the place of the other.
html_additional_pages = {"index": "to_index.html", "live/index": "without_live.html"}
sidebar = ("brand", "search", "scroll-start", "navigation", "live", "scroll-end")
html_sidebars = {"**": [f"sidebar/{part}.html" for part in sidebar]}
templates_path = ["_templates"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
highlight_language = "text"
pygments_style = "vs"
pygments_dark_style = "github-dark"


def colors(links: str, code: str) -> dict[str, str]:
    """The theme's variables: of links and names, and behind code."""
    names = ("brand-primary", "brand-content", "brand-visited", "api-name", "api-pre-name")
    return {**{f"color-{name}": links for name in names}, "color-code-background": code}


html_theme_options = {
    "light_css_variables": colors("#1f5fa8", "#f4f6f8"),
    "dark_css_variables": colors("#8ab8f0", "#1e2126"),
    "top_of_page_buttons": ["view"],  # in its place _templates has the link to the other language
}


def for_the_site(app: object, page: str, source: list[str]) -> None:
    """Directives come out of their comments."""
    text = re.sub(r"<!-- github -->.*?<!-- /github -->\n", "", source[0], flags=re.DOTALL)
    source[0] = re.sub(r"^<!-- (\{.*?)^-->$", r"```\1```", text, flags=re.DOTALL | re.MULTILINE)


def keep_equations(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """An indented block after a line that ends in a colon is a literal one."""
    for k, (line, after) in enumerate(pairwise(lines)):
        if line.endswith(":") and not line.endswith("::") and not after and lines[k + 2 : k + 3] != [""]:
            following = lines[k + 2] if k + 2 < len(lines) else ""
            if len(following) - len(following.lstrip()) > len(line) - len(line.lstrip()):
                lines[k] += ":"


def opened(app: object, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """A link to a file of the repository shows it, and does not save it; a picture opens by itself, in its own size."""
    body = context.get("body", "").replace(' download=""', "")
    context["body"] = re.sub(r'<img [^>]*src="([^"]+)"[^>]*>', r'<a class="picture" href="\1">\g<0></a>', body)


def setup(app: Any) -> None:
    app.connect("source-read", for_the_site)
    app.connect("autodoc-process-docstring", keep_equations)
    app.connect("html-page-context", opened)
