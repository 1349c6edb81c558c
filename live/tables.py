"""What the page knows of the package, as one script of data: shapes in letters, the constructor's words, the colors of its plots.

Every entry is read off the package; the page multiplies letters by numbers, and no more.
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import to_hex

import fastlstm
from fastlstm import cells, shapes
from fastlstm.plot import gates, unrolled
from fastlstm.traces import STEPS, TRACES

CLASSES: dict[str, Any] = {"LSTM": fastlstm.LSTM, "GRU": fastlstm.GRU}
COLORS = 33  # of a color map: the page draws straight lines between them
LAYOUTS = {"time": {}, "batch": {"batch_first": True}, "unbatched": {"unbatched": True}}

# Settings that the constructor refuses, in the order in which it looks: when each [argument, relation, number, type or another
# argument] holds, it says what it says to the example.
Rule = tuple[list[list[Any]], dict[str, Any]]
SIZES = [
    rule
    for name in ("input_size", "hidden_size")
    for rule in (
        ([[name, "is", "float"]], {name: 2.5}),
        ([[name, "is", "str"]], {name: "many"}),
        ([[name, "<=", 0]], {name: 0}),
    )
]
RULES: list[Rule] = [
    ([["dropout", "is", "str"]], {"dropout": "many"}),
    ([["dropout", "<", 0]], {"dropout": -0.5}),
    ([["dropout", ">", 1]], {"dropout": 1.5}),
    *SIZES,
    ([["num_layers", "is", "str"]], {"num_layers": "many"}),
    ([["num_layers", "<=", 0]], {"num_layers": 0}),
    ([["proj_size", "is", "str"]], {"proj_size": "many"}),
    ([["proj_size", "<", 0]], {"proj_size": -1}),
    ([["proj_size", ">=", "hidden_size"]], {"proj_size": 4}),
    ([["num_layers", "is", "float"]], {"num_layers": 2.5}),
    ([["proj_size", "is", "float"]], {"proj_size": 2.5}),
]
NO_PROJECTION: Rule = ([["proj_size", "!=", 0]], {"proj_size": 2})
DROPOUT_OF_ONE_LAYER: Rule = ([["dropout", ">", 0], ["num_layers", "==", 1]], {"dropout": 0.25, "num_layers": 1})
OF_A_CALL: list[Rule] = [([[name, "<=", 0]], {name: 0}) for name in ("batch", "length")]


def tables() -> dict[str, Any]:
    return {
        "version": fastlstm.__version__,
        "constructor": constructor(),
        "rules": {name: rules(name) for name in CLASSES},
        "sizes": sizes(),
        "tensors": tensors(),
        "parameters": parameters(),
        "cells": {cell.name: cell_table(cell) for cell in cells.CELLS},
        "colors": {name: color_map(name) for name in ("viridis", "RdBu_r")},
        "network": {"data": unrolled.DATA, "state": unrolled.STATE, "lanes": unrolled.LANES},
    }


def constructor() -> list[dict[str, Any]]:
    """The constructor's arguments, but for what is of training alone, and their defaults; None: there is none."""
    signature = inspect.signature(fastlstm.LSTM.__init__).parameters
    given = [parameter for name, parameter in signature.items() if name not in ("self", "checkpoint_every")]
    return [{"name": p.name, "default": None if p.default is p.empty else p.default} for p in given]


def rules(cell: str) -> list[dict[str, Any]]:
    """What the constructor says, and when."""
    without = [rule for rule in RULES if "proj_size" not in rule[1]]  # a GRU refuses it before it looks at the rest
    own = RULES if cell == "LSTM" else [NO_PROJECTION, *without]
    return [
        *(said(CLASSES[cell], rule) for rule in own),
        *(said(shapes.describe, rule) for rule in OF_A_CALL),
        said(CLASSES[cell], DROPOUT_OF_ONE_LAYER),
    ]


def said(function: Callable[..., Any], rule: Rule) -> dict[str, Any]:
    """The example's own values stand in the words as {argument}."""
    when, example = rule
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            function(**{"input_size": 3, "hidden_size": 4, **example})
        except Exception as error:
            kind, message = type(error).__name__, str(error)
        else:
            kind, message = caught[0].category.__name__, str(caught[0].message)
    for name, value in example.items():
        message = message.replace(f"{name}={value}", f"{name}={{{name}}}").replace("'many'", f"'{{{name}}}'")
    return {"when": when, "kind": kind, "message": message}


def dimensions(shape: shapes.Shape) -> list[str]:
    return shape.letters.strip("(),").split(", ")


def sizes() -> dict[str, list[dict[str, Any]]]:
    """The letters of a layer: what each stands for, in words, and which argument (or number) it is."""
    of = {"length": 11, "batch": 7, "num_layers": 13, "input_size": 17, "hidden_size": 19, "proj_size": 5}
    named = {number: name for name, number in of.items()}
    found = {}
    for cell in CLASSES:
        for unbatched in (False, True):
            for proj in (False, True) if cell == "LSTM" else (False,):
                numbers = {**of, "proj_size": of["proj_size"] * proj}
                layer = shapes.describe(**numbers, unbatched=unbatched, cell=cell)
                key = f"{cell} {'unbatched' if unbatched else 'batched'}{' proj' * proj}"
                found[key] = [
                    {"letter": letter, "of": named.get(size, size), "meaning": shapes.meaning(layer, letter)}
                    for letter, size in layer.sizes.items()
                ]
    return found


def tensors() -> dict[str, list[dict[str, Any]]]:
    return {
        f"{cell} {layout}": [
            {"name": t.name, "meaning": t.meaning, "shape": dimensions(t.shape)}
            for t in shapes.describe(3, 4, cell=cell, **options).tensors
        ]
        for cell in CLASSES
        for layout, options in LAYOUTS.items()
    }


def parameters() -> dict[str, list[dict[str, Any]]]:
    """Of one layer in one direction, without the suffix of its name: its shape in the first layer and in those above it."""
    found = {}
    for cell in CLASSES:
        for bias in (False, True):
            for proj in (False, True) if cell == "LSTM" else (False,):
                layer = shapes.describe(3, 4, 2, proj_size=2 * proj, bias=bias, cell=cell)
                half = len(layer.parameters) // 2
                found[f"{cell}{' bias' * bias}{' proj' * proj}"] = [
                    {
                        "name": first.name.removesuffix("_l0"),
                        "first": dimensions(first.shape),
                        "above": dimensions(above.shape),
                    }
                    for first, above in zip(layer.parameters[:half], layer.parameters[half:], strict=True)
                ]
    return found


def cell_table(cell: cells.Cell) -> dict[str, Any]:
    """gates: in the order of the weights; steps: of the engine's `trace`; rows: of a plot, with their colors and limits."""
    rows = [row._asdict() for row in gates.ROWS[TRACES[cell.name]]]
    return {"gates": cell.gates, "states": cell.states, "steps": STEPS[cell.name]._fields[1:], "rows": rows}


def color_map(name: str) -> list[str]:
    return [to_hex(colormaps[name](k / (COLORS - 1))) for k in range(COLORS)]
