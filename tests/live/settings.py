"""Random settings of the constructor and of a call, by seed."""

import random
from typing import Any

WRONG: dict[str, list[Any]] = {
    "input_size": [0, -3, 2.5, "many"],
    "hidden_size": [0, -1, 1.5, "some"],
    "num_layers": [0, -2, 1.5, "two"],
    "proj_size": [-1, 50, 1.5, "wide"],
    "dropout": [-0.25, 1.5, "half"],
}


def random_settings(seed: int, *, wrong: bool) -> dict[str, Any]:
    """wrong: one to three arguments that the constructor refuses, or warns of."""
    drawn = random.Random(seed)
    hidden = drawn.randint(2, 9)
    cell = drawn.choice(["LSTM", "LSTM", "GRU"])
    layers = drawn.randint(1, 3)
    given = {
        "cell": cell,
        "input_size": drawn.randint(1, 4),
        "hidden_size": hidden,
        "num_layers": layers,
        "bias": drawn.random() < 0.7,
        "batch_first": drawn.random() < 0.4,
        "dropout": drawn.choice([0.0, 0.25]) if layers > 1 or wrong else 0.0,
        "bidirectional": drawn.random() < 0.4,
        "proj_size": drawn.choice([0, drawn.randint(1, hidden - 1)]) if cell == "LSTM" else 0,
        "device": drawn.choice([None, "cpu"]),
        "dtype": drawn.choice([None, "float32", "float64"]),
        "length": drawn.randint(1, 9),
        "batch": drawn.randint(1, 3),
        "unbatched": drawn.random() < 0.3,
    }
    if wrong:
        for name in drawn.sample(sorted(WRONG), drawn.randint(1, 3)):
            given[name] = drawn.choice(WRONG[name])
    return given


def arguments_of(given: dict[str, Any]) -> dict[str, Any]:
    """Of the class's constructor. A GRU is told a proj_size only where there is one: it takes no such name."""
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "device"]
    if given["cell"] == "LSTM" or given["proj_size"] != 0:
        names.append("proj_size")
    return {name: given[name] for name in names}
