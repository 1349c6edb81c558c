"""What can be done with a recurrent layer of torch's, each a function of the layer's class, and which class refuses it.

`docs/operations.md` has a row for each; `test_operations.py` holds its cells to what runs. Expected numbers are those of
`Equations`, in plain tensor operations, and where these can't go (packed batches, exports) the layer's own, eagerly.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from conftest import assert_close
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Kind = type[nn.Module]


class Operation(NamedTuple):
    """A row of the page. refusals: by the name of the class ("nn.LSTM", "fastlstm.LSTM"), what it says (a pattern) where the
    operation fails; empty where it works.
    """

    name: str
    run: Callable[[Kind], None]
    refusals: Mapping[str, str]


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, torchs: str = "", ours: str = ""
) -> Callable[[Callable[[Kind], None]], Callable[[Kind], None]]:
    """Makes a function that asserts that it works a row. torchs, ours: what nn.LSTM and fastlstm.LSTM say where it doesn't."""

    def register(run: Callable[[Kind], None]) -> Callable[[Kind], None]:
        assert name not in OPERATIONS
        refusals = {"nn.LSTM": torchs, "fastlstm.LSTM": ours}
        OPERATIONS[name] = Operation(name, run, {column: words for column, words in refusals.items() if words})
        return run

    return register


def build(kind: Kind, **options: Any) -> nn.Module:
    """Two layers of 4 units over 3 features, always the same weights."""
    torch.manual_seed(0)
    layer: nn.Module = kind(3, 4, 2, **options)
    return layer


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Always the same numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64).to(dtype)


def near(found: Any, expected: Any, dtype: torch.dtype | None = None) -> None:
    """Tensors in any structure, by the relative norm that gradients are held to."""
    found, expected = tree_leaves(found), tree_leaves(expected)
    names = [f"d{k}" for k in range(len(expected))]
    assert_close(
        dict(zip(names, (t.detach() for t in found), strict=True)),
        dict(zip(names, (t.detach() for t in expected), strict=True)),
        dtype,
    )


def output_of(layer: nn.Module) -> Callable[..., Tensor]:
    """output as a function of its parameters, by name, and x."""
    return lambda weights, x: torch.func.functional_call(layer, weights, (x,))[0]


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in layer.named_parameters()}


def quietly(run: Callable[[Kind], None], kind: Kind) -> None:
    """Without the warnings of exporters, of what torch has deprecated, and of fallbacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(kind)
