"""The house of native/src: its floors, and what stands in one place alone."""

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "native" / "src"
FILES = [path for path in sorted(SOURCE.rglob("*")) if path.suffix in (".h", ".cpp")]
# Which folders a folder's files may include, beside its own and the public header.
FLOORS = {
    "platform": set(),
    "memory": {"batch", "platform"},
    "team": {"platform"},
    "isa": {"batch"},
    "batch": {"isa"},  # rows.h is compiled for an instruction set
    "math": {"batch", "isa"},
    "plan": {"batch", "product"},  # where a sum is cut: product/parts.h
    "product": {"batch", "isa"},
    "cell": {"batch", "isa", "math", "product"},
    "layer": {"batch", "cell", "isa", "math", "memory", "plan", "platform", "product", "team"},
}
TABLES = {"dispatch.h", "dispatch.cpp", "kernels.h", "table.h"}  # of isa/: the kernels as a whole, above all of them


def folder_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_includes_what_stands_below_it(path):
    folder = folder_of(path)
    if folder not in FLOORS or (folder == "isa" and (path.name in TABLES or path.suffix == ".cpp")):
        return  # engine.cpp, and the tables of kernels
    for included in re.findall(r'#include "([a-z0-9_]+)/', path.read_text()):
        assert included in FLOORS[folder] | {folder, "fastlstm"}, f"{name_of(path)} includes {included}/"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_a_cell_knows_how_many_gates_it_has(path):
    if folder_of(path) == "cell":
        return
    for line in path.read_text().splitlines():
        assert not re.search(r"\b4 ?\* ?(\w+[.]|\w+->)?(H|Hp|lanes|kLanes|units)\b|\b4 ?Hp?\b|gate < 4", line), line


def test_files_are_short():
    for path in FILES:
        assert len(path.read_text().splitlines()) < 400, name_of(path)
