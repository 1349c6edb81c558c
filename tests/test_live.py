"""The tables of the live page say what the package says: shapes, and the constructor's words. The page itself: tests/live."""

import importlib.util
import math
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import fastlstm
from fastlstm.shapes import describe
from tests.live.settings import arguments_of, random_settings

LIVE = Path(__file__).parent.parent / "live"


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("tables", LIVE / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tables()


def numbers(sizes: dict[str, int], dimensions: list[str]) -> tuple[int, ...]:
    return tuple(math.prod(sizes.get(f) or int(f) for f in dimension.split("*")) for dimension in dimensions)


@pytest.mark.parametrize("seed", range(40))
def test_shapes_are_the_packages(tables, seed):
    given = random_settings(seed, wrong=False)
    cell, of = given["cell"], {**given, "batch": 1 if given["unbatched"] else given["batch"]}
    layer = describe(**{name: of[name] for name in of if name not in ("dropout", "dtype", "device")})
    proj = " proj" * (given["proj_size"] > 0)
    letters = tables["sizes"][f"{cell} {'unbatched' if given['unbatched'] else 'batched'}{proj}"]
    sizes = {e["letter"]: of[e["of"]] if isinstance(e["of"], str) else e["of"] for e in letters}
    sizes["D"] += given["bidirectional"]
    assert sizes == layer.sizes
    layout = "unbatched" if given["unbatched"] else "batch" if given["batch_first"] else "time"
    for found, tensor in zip(tables["tensors"][f"{cell} {layout}"], layer.tensors, strict=True):
        assert (found["name"], found["meaning"]) == (tensor.name, tensor.meaning)
        assert numbers(sizes, found["shape"]) == tensor.shape.numbers
        assert ", ".join(found["shape"]) == tensor.shape.letters.strip("(),")
    patterns = tables["parameters"][f"{cell}{' bias' * given['bias']}{proj}"]
    found = [
        (f"{p['name']}_l{k}{suffix}", numbers(sizes, p["above" if k else "first"]))
        for k in range(given["num_layers"])
        for suffix in ("", "_reverse")[: sizes["D"]]
        for p in patterns
    ]
    assert found == [(p.name, p.shape.numbers) for p in layer.parameters]


RELATIONS = {
    "is": lambda a, b: type(a).__name__ == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def said(rules: list[dict[str, Any]], given: dict[str, Any]) -> tuple[str, str] | None:
    """By the table, as the page reads it."""

    def holds(name: str, relation: str, bound: Any) -> bool:
        value, other = given[name], given.get(bound, bound) if isinstance(bound, str) else bound
        comparable = relation in ("is", "!=") or not (isinstance(value, str) or isinstance(other, str))
        return comparable and RELATIONS[relation](value, other)

    found = next((rule for rule in rules if all(holds(*condition) for condition in rule["when"])), None)
    return None if found is None else (found["kind"], found["message"].format(**given))


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_what_the_constructor_says(tables, cell):
    drawn = random.Random(cell)
    seen = set()
    for _ in range(150):
        given = {**random_settings(drawn.randrange(10**6), wrong=True), "cell": cell}
        expected = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                getattr(fastlstm, cell)(**arguments_of(given))
            except Exception as error:
                expected = type(error).__name__, str(error)
            else:
                if caught:
                    expected = "UserWarning", str(caught[0].message)
        assert said(tables["rules"][cell], {**given, "batch": 1, "length": 1}) == expected, given
        seen.add(expected and expected[1])
    assert len(seen) > 6


def test_every_rule_has_words_of_its_own(tables):
    for rules in tables["rules"].values():
        assert all(rule["message"] and rule["when"] for rule in rules)
    assert tables["constructor"][0] == {"name": "input_size", "default": None}
    assert [argument["name"] for argument in tables["constructor"]][2:] == [
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
        "device",
        "dtype",
    ]


def test_files_of_the_page_are_short():
    for path in [*LIVE.rglob("*.js"), *LIVE.rglob("*.css"), *LIVE.rglob("*.cpp"), *LIVE.glob("*.py")]:
        assert len(path.read_text().splitlines()) < 400, path.name
    assert "tables" not in sys.modules  # read by its path: nothing else is called so
