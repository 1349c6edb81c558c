"""A Korean page says what the English page says. What can be compared without reading Korean is compared, text by text: what
stands where (headings, paragraphs, list items, tables' rows), code, names, links and figures. Code blocks are the English
page's, comments too, so they run once (tests/test_docs.py). A sentence that changes and keeps its names and figures passes:
bring it over by hand.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
PAIRS = {"README.md": "README.ko.md"}
PAIRS |= {f"docs/{page.name}": f"docs/ko/{page.name}" for page in sorted((ROOT / "docs" / "ko").glob("*.md"))}
TRANSLATED = PAIRS | {korean: english for english, korean in PAIRS.items()}

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SIZE = r"(?:[A-Za-z_]+|\d)(?:\*\w+)?(?: \d+)?"  # H_in, 4*H_cell, D*H_out, H 64
SHAPE = re.compile(rf"\({SIZE}(?:, {SIZE})+\)|\({SIZE},\)", re.ASCII)
IDENTIFIER = re.compile(r"[A-Za-z]\w*_\w*", re.ASCII)
# Where English has "five minutes", Korean may have 5분.
WORDS = {
    "zeros": "0",
    "a": "1",
    "one": "1",
    "once": "1",
    "two": "2",
    "both": "2",
    "twice": "2",
    "second": "2",
    "three": "3",
}
WORDS |= {
    "four": "4",
    "quarters": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "ten": "10",
    "fourteen": "14",
}


@dataclass
class Section:
    """What stands under a heading, up to the next one."""

    level: str
    kinds: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    texts: list[Token] = field(default_factory=list)  # the heading, then paragraphs and cells as they come

    @property
    def heading(self) -> str:
        return self.texts[0].content


def sections(text: str) -> list[Section]:
    found: list[Section] = []
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "heading_open":
            found.append(Section(token.tag))
        elif token.type == "inline":
            found[-1].texts.append(token)
        elif token.type in ("fence", "code_block"):
            found[-1].code.append(f"{token.info}\n{token.content}")
        if token.nesting == 1:
            found[-1].kinds.append(token.type.removesuffix("_open"))
    return found


@cache
def anchors(page: str) -> list[str]:
    """Of a page's headings, as the site and a repository make them."""
    headings = [section.heading for section in sections((ROOT / page).read_text())]
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def prose(text: Token) -> str:
    """Without code, and without the targets of links."""
    return "".join(child.content if child.type == "text" else " " for child in text.children or [])


def names(text: Token) -> set[str]:
    code = {child.content for child in text.children or [] if child.type == "code_inline"}
    return code | set(IDENTIFIER.findall(prose(text)))


def figures(text: Token) -> Counter[str]:
    return Counter(NUMBER.findall(prose(text)) + SHAPE.findall(prose(text)))


def links(text: Token, page: str) -> list[tuple[str, str]]:
    """Path from the root and anchor of every link and picture."""
    attributes = [child.attrs for child in text.children or [] if child.type in ("link_open", "image")]
    targets = [str(given.get("href", given.get("src"))) for given in attributes]
    return [
        (target, "")
        if target.startswith("https:")
        else (os.path.normpath(Path(page).parent / path) if path else page, unquote(anchor))
        for target in targets
        for path, _, anchor in [target.partition("#")]
    ]


def in_korean(link: tuple[str, str]) -> tuple[str, str]:
    """Where the Korean page leads in place of this."""
    page, anchor = link
    other = TRANSLATED.get(page, page)
    return other, anchors(other)[anchors(page).index(anchor)] if anchor and other != page else anchor


def assert_same(page: str, english: str, korean: str) -> None:
    """The message names the page and the heading, and says what differs."""
    ours, theirs = sections(english), sections(korean)
    levels = [[section.level for section in each] for each in (ours, theirs)]
    unmatched = next(
        (k for k, pair in enumerate(zip(*levels, strict=False)) if pair[0] != pair[1]), min(map(len, levels))
    )
    assert levels[0] == levels[1], (
        f"{page}: {PAIRS[page]} has other headings from {[s.heading for s in ours][unmatched:][:1]} on"
    )
    for one, other in zip(ours, theirs, strict=True):
        where = f"{page}, {one.heading!r} ({PAIRS[page]}, {other.heading!r})"
        assert other.kinds == one.kinds, f"{where}: other paragraphs, list items or rows"
        assert other.code == one.code, f"{where}: another code block"
        for text, translation in zip(one.texts, other.texts, strict=True):
            here = f"{where}: {text.content[:60]!r}:"
            assert names(translation) == names(text), f"{here} other names: {sorted(names(translation) ^ names(text))}"
            expected = sorted(map(in_korean, links(text, page)))
            assert sorted(links(translation, PAIRS[page])) == expected, f"{here} other links"
            missing, more = figures(text) - figures(translation), figures(translation) - figures(text)
            assert not missing, f"{here} without {sorted(missing)}"
            said = {WORDS[word] for word in re.findall(r"[a-z]+", prose(text).lower()) if word in WORDS}
            assert set(more) <= said, f"{here} {sorted(set(more) - said)} that the English page has not"


@pytest.mark.parametrize("page", PAIRS)
def test_a_korean_page_has_what_the_english_page_has(page):
    assert_same(page, (ROOT / page).read_text(), (ROOT / PAIRS[page]).read_text())


@pytest.mark.parametrize(
    ("page", "old", "new", "message"),
    [
        ("start", "a minute or two", "3 minutes", r"start.md, 'Install'.*without \['3'\]"),
        ("start", "Python 3.11 or", "Python or", r"start.md, 'Install'.*\['3.11'\] that the English page has not"),
        ("start", "| `.` |\n", "| `.` |\n| more | `.` |\n", "start.md, 'Install'.*list items or rows"),
        ("start", "`.[torch,cli]`", "`.[cli]`", "start.md, 'Install'.*other names"),
        ("start", "10 features", "11 features", "start.md, 'The first call'.*another code block"),
        ("start", "](adopt.md)", "](deploy.md)", "start.md, 'Your own model, unchanged'.*other links"),
        ("start", "](adopt.md)", "](adopt.md#one-model)", "start.md, 'Your own model, unchanged'.*other links"),
        ("start", "## Where next", "### Where next", "start.md: .*other headings from .*'Where next'"),
        (
            "start",
            "## Where next",
            "## More\n\nMore.\n\n## Where next",
            r"start.md: .*other headings from .*'Where next'",
        ),
        ("layer", "(L, N, D\\*H_out)", "(N, L, D\\*H_out)", r"layer.md, 'Shapes'.*without \['\(N, L, D\*H_out\)'\]"),
    ],
)
def test_a_change_of_the_english_page_alone_is_told(page, old, new, message):
    english, korean = ((ROOT / folder / f"{page}.md").read_text() for folder in ("docs", "docs/ko"))
    assert old in english
    with pytest.raises(AssertionError, match=message):
        assert_same(f"docs/{page}.md", english.replace(old, new, 1), korean)


@pytest.mark.parametrize("page", PAIRS.values())
def test_tildes_are_escaped(page):
    """3~4 and 5~6 would be struck out between the tildes, where a repository's pages are shown."""
    texts = [text.content for section in sections((ROOT / page).read_text()) for text in section.texts]
    assert not [text for text in texts if re.search(r"(?<!\\)~", text)]
