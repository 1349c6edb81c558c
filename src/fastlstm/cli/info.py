"""`fastlstm info`: what is installed, and what a call on this machine runs on."""

import os
from importlib.util import find_spec

from rich.table import Table
from rich.text import Text

from fastlstm import _engine
from fastlstm.cli.output import output, show


def info() -> None:
    """Show versions, instruction sets, threads and engine. The engine is the one that a CPU tensor goes to."""
    table = Table(show_header=False, box=None)
    for name, value in {**native(), **torch_face()}.items():
        table.add_row(name, Text(value))  # a Text: in plain strings rich reads "[torch]" as markup
    show(output(), table)


def native() -> dict[str, str]:
    """What the native engine says of itself and of this processor."""
    from fastlstm import __version__

    forced = os.environ.get("FASTLSTM_ISA")
    return {
        "fastlstm": __version__,
        "instruction sets": ", ".join(_engine.isas()),
        "in use": _engine.isa() + (f" (FASTLSTM_ISA={forced})" if forced else ""),
    }


def torch_face() -> dict[str, str]:
    """What the layer runs on inside torch, or what to install where there is no torch."""
    if find_spec("torch") is None:
        return {"torch": 'not installed; for the layer: pip install ".[torch]" in the folder of fastlstm'}
    import torch

    import fastlstm
    from fastlstm.torch.parallel import share_torch_threads

    pool = "torch's own OpenMP threads" if share_torch_threads() else "a pool of the engine's own"
    lstm = fastlstm.LSTM(1, 1)
    with torch.inference_mode():
        engine = fastlstm.engine(lstm, torch.zeros(1, 1, 1))
    return {
        "torch": torch.__version__,
        "threads": f"{torch.get_num_threads()} (torch.get_num_threads()), {pool}",
        "a CPU tensor goes to": str(engine),
    }
