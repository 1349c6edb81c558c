"""Every code block of README.md, CONTRIBUTING.md and docs/ runs; so does every example.

python: executed, one namespace a page. console: `$ fastlstm ...` is run and prints what the page shows, where it shows
anything; `$ make ...` must be a target of the Makefile. c: compiled and run by `make test-c` (tests/c). There is no other kind of
block. Korean pages have the same blocks (tests/test_korean.py).
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
KOREAN = [ROOT / "README.ko.md", *sorted((ROOT / "docs" / "ko").glob("*.md"))]
MAIN = "from fastlstm.__main__ import main; main()"


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """Language, text and line of every fenced block of a page."""
    tokens = MarkdownIt().parse(page.read_text())
    return [(token.info, token.content, token.map[0] + 1) for token in tokens if token.type == "fence"]


def commands(text: str) -> list[tuple[str, str]]:
    """The lines after `$ `, each with what the page shows beneath it."""
    found = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert found[0] == "", "a console block starts with a command"
    return [(command, output) for command, _, output in (entry.partition("\n") for entry in found[1:])]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in `folder`, on a terminal as wide as the pages."""
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


CONSOLE = {  # a command that several pages show is run once
    (command, output): pytest.param(page, command, output, id=f"{page.name}:{line}:{command}")
    for page in reversed(PAGES)
    for language, text, line in blocks(page)
    if language == "console"
    for command, output in commands(text)
}.values()


def test_there_is_no_other_kind_of_block():
    kinds = {language for page in PAGES for language, _, _ in blocks(page)}
    assert kinds == {"python", "console", "c"}


# torch says it of its own exporter and forward mode.
@pytest.mark.filterwarnings(
    "ignore:Full backward hook is firing:UserWarning",  # Opacus' first layer
    "ignore:Secure RNG turned off:UserWarning",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning",
)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python_of(page)


def run_python_of(page: Path) -> None:
    names: dict[str, object] = {}
    for language, text, line in blocks(page):
        if language == "python":
            exec(compile("\n" * line + text, str(page), "exec"), names)


@pytest.mark.parametrize(("page", "command", "output"), CONSOLE)
def test_console_blocks_run(page, command, output, tmp_path, monkeypatch):
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert {argument for argument in arguments if "=" not in argument} <= set(targets)
        return
    assert program == "fastlstm"
    if arguments[0] == "run":  # on files that the page's Python writes
        monkeypatch.chdir(tmp_path)
        run_python_of(page)
    result = run("-c", MAIN, *arguments, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    if output.strip():
        assert [line.rstrip() for line in result.stdout.splitlines()] == output.splitlines()


def test_links_lead_to_files():
    for page in PAGES + KOREAN:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_recipes_of_contributing_name_files_that_exist():
    recipes = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| ")]
    named = [name for line in recipes for name in re.findall(r"`([\w./-]+\.\w+|\w+/)`", line)]
    assert "torch/attributes.py" in named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "src" / "fastlstm" / name).exists(), name


def test_the_drop_in_example_runs(tmp_path):
    result = run("-W", "error", str(ROOT / "examples" / "drop_in.py"), folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "engine: native" in result.stdout


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("voice_activity", "silero_vad"),
        ("beat_tracking", "BeatNet"),
        ("chinese_pronunciation", "g2pM"),
        ("english_pronunciation", "g2p_en"),
    ],
)
def test_an_example_without_its_package_says_what_to_install(name, package, tmp_path):
    start = f"import runpy, sys; sys.modules[{package!r}] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    result = run("-c", start, str(ROOT / "examples" / f"{name}.py"), folder=tmp_path)
    assert result.returncode == 1
    assert re.fullmatch(rf".*: pip install (--no-deps )?{package.replace('_', '-')}\n", result.stderr), result.stderr
