"""The documentation's site, as far as it can be seen without Sphinx: `make docs` builds it, and checks what it built."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.tolerances import TOLERANCE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def directives(page: str) -> list[tuple[str, str]]:
    """Name and text of every directive of a page: comments to whoever reads it in the repository."""
    return re.findall(r"^<!-- \{([a-z-]+)\}(.*?)^-->$", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def in_a_toctree() -> list[str]:
    """Pages from the root, without their suffix."""
    lines = [
        line
        for name, text in directives("index.md")
        if name == "toctree"
        for line in text.splitlines()
        if line and not line.startswith(":")
    ]
    named = [match[1] if (match := re.fullmatch(r".+ <(.+)>", line)) else line for line in lines]
    return [name[1:] if name.startswith("/") else f"docs/{name}" for name in named]


def test_every_page_is_in_one_toctree():
    listed = in_a_toctree()
    assert len(listed) == len(set(listed))
    pages = {page.relative_to(ROOT).with_suffix("").as_posix() for page in DOCS.rglob("*.md")} - {"docs/index"}
    assert {name for name in listed if name.startswith("docs/")} == pages
    for name in listed:
        assert (ROOT / f"{name}.md").is_file(), name


def test_a_toctree_is_of_one_language():
    """Those with a Korean caption are the Korean pages' sidebar (docs/languages.py)."""
    for name, text in directives("index.md"):
        if name == "toctree":
            caption = re.search(r"^:caption: (.+)$", text, flags=re.MULTILINE)
            assert caption
            pages = [line for line in text.splitlines() if line and not line.startswith(":")]
            assert {"<ko/" in page for page in pages} == {bool(re.search("[가-힣]", caption[1]))}, caption[1]


def test_sphinx_is_given_every_page_of_a_toctree():
    assigned = next(
        node.value
        for node in ast.parse((DOCS / "conf.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "include_patterns"
    )
    patterns = ast.literal_eval(assigned)
    found = {path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern)}
    assert found == {Path(f"{name}.md") for name in [*in_a_toctree(), "docs/index"]}


def test_the_front_page_leads_to_every_page_of_docs():
    text = (DOCS / "index.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or f"]({page.name})" in text, page.name


@pytest.mark.parametrize("module", ["fastlstm", "fastlstm.numpy", "fastlstm.opacus", "fastlstm.plot"])
def test_the_api_page_has_every_public_name(module):
    said = [
        name
        for directive, text in directives("api.md")
        if directive == "eval-rst"
        for name in re.findall(r"^\.\. (?:auto\w+|py:data|py:module):: ([\w.]+)", text, flags=re.MULTILINE)
    ]
    assert len(said) == len(set(said))
    for name in importlib.import_module(module).__all__:
        assert f"{module}.{name}" in said, name
    for name in said:  # and none that is not there
        home, _, last = name.rpartition(".")
        assert name in ("fastlstm.numpy", "fastlstm.opacus") or last in importlib.import_module(home).__all__, name


@pytest.mark.parametrize("page", sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")))
def test_a_page_has_one_title_and_no_other_comments(page):
    text = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    assert text.startswith("# ")
    kinds = {name for name, _ in directives(page)}
    assert kinds <= {"toctree", "include", "eval-rst", "raw"}
    assert text.count("<!-- ") == len(directives(page)) + text.count("<!-- github -->") + text.count("<!-- /github -->")


def test_the_tolerances_that_the_page_shows():
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| ([^|]+) \|$", (DOCS / "testing.md").read_text(), flags=re.MULTILINE)
    shown = {name: (value, gradient) for name, value, gradient in rows if name.startswith(("float", "bfloat"))}
    real = {str(dtype).removeprefix("torch.") for dtype, _ in TOLERANCE if dtype.is_floating_point}
    assert set(shown) == real
    for (dtype, kind), tolerance in TOLERANCE.items():
        if dtype.is_floating_point:
            said = shown[str(dtype).removeprefix("torch.")][kind == "gradient"]
            base, _, power = said.partition("^")
            assert (float(base) ** int(power) if power else float(base)) == tolerance


def test_a_question_has_an_answer_and_code_that_asserts():
    questions = re.split(r"^### ", (DOCS / "faq.md").read_text(), flags=re.MULTILINE)[1:]
    assert len(questions) == 14
    for question in questions:
        title, _, rest = question.partition("\n")
        answer, _, code = rest.partition("```python\n")
        assert title.endswith("?")
        assert 2 <= len(re.findall(r"[.?!](?=\s)", answer)) <= 6, title
        assert "assert" in code.partition("```")[0], title
