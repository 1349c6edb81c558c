"""English and Korean pages in one site. `docs/ko/<page>.md` is `docs/<page>.md` in Korean; a page without it is English alone.

A page says its language, links to its counterpart, and has the sidebar, the neighbours and the words of the theme in its
own language. All toctrees stand in `docs/index.md`; those whose caption is Korean are the Korean pages' sidebar.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

from docutils import nodes
from sphinx.search.en import SearchEnglish

INDEX = {"en": "docs/index", "ko": "docs/ko/index"}
NAMES = {"en": "English", "ko": "한국어"}
MENU = {"en": "Language", "ko": "언어"}
HANGUL = re.compile(r"[가-힣]+")
# In `enable()`은 a browser would break the line before the particle.
BEFORE_A_PARTICLE = re.compile(r"((?:[)\]}]|</code>)(?:</\w+>)*)(?=[가-힣])")
THEME = {  # what it says on a page
    "Search": "검색",
    "Skip to content": "본문으로 건너뛰기",
    "On this page": "이 페이지의 내용",
    "Back to top": "맨 위로",
    "Next": "다음",
    "Previous": "이전",
    "Home": "처음",
}


def language_of(page: str) -> str:
    return "ko" if page.startswith("docs/ko/") else "en"


def counterpart(page: str, pages: set[str]) -> str:
    """The same page in the other language, or that language's first."""
    if language_of(page) == "ko":
        return page.replace("docs/ko/", "docs/", 1)
    other = f"docs/ko/{page.removeprefix('docs/')}"
    return other if other in pages else INDEX["ko"]


def sidebar_in(language: str, toctree: Callable[..., str]) -> Callable[..., str]:
    """The toctrees with a caption in this language."""

    def render(**options: Any) -> str:
        trees = re.split(r'(?=<p class="caption")', toctree(**options))
        captions = [tree.partition("</p>")[0] for tree in trees]
        return "".join(t for t, c in zip(trees, captions, strict=True) if bool(HANGUL.search(c)) == (language == "ko"))

    return render


def name_sections(app: Any, doctree: nodes.document) -> None:
    """A Korean heading's anchor is what a repository's page gives it, not a number that moves."""
    for section in doctree.findall(nodes.section):
        title = section.next_node(nodes.title).astext()
        if HANGUL.search(title):
            section["ids"].insert(0, re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))


def in_its_language(app: Any, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    language = language_of(page)
    other = "en" if language == "ko" else "ko"
    context["language"] = language
    context["elsewhere"] = {
        "page": counterpart(page, app.env.found_docs),
        "language": other,
        "name": NAMES[other],
        "menu": MENU[language],
    }
    context["toctree"] = sidebar_in(language, context["toctree"])
    for side in ("prev", "next"):
        if context.get(side) and language_of(urljoin(page, context[side]["link"])) != language:
            context[side] = None
    if language == "ko":
        context["master_doc"] = INDEX["ko"]  # where the site's name leads
        context["body"] = BEFORE_A_PARTICLE.sub("\\1&#8288;", context.get("body", ""))  # a word joiner
        context["_"] = context["gettext"] = lambda text: THEME.get(text, text)


class Search(SearchEnglish):
    """Sphinx's for English finds a word of one or two letters only where it stands alone. Particles are written to the end of a
    Korean word (은닉, 은닉을), so each beginning of one counts as a word, too."""

    def split(self, input: str) -> list[str]:
        words = super().split(input)
        korean = [run for word in words for run in HANGUL.findall(word)]
        return words + [run[:length] for run in korean for length in range(2, len(run) + 1)]


def setup(app: Any) -> dict[str, bool]:
    app.add_search_language(Search)
    app.connect("doctree-read", name_sections, priority=400)  # before Sphinx collects the contents
    app.connect("html-page-context", in_its_language, priority=400)  # before the theme, which asks for the toctree
    return {"parallel_read_safe": True, "parallel_write_safe": True}
