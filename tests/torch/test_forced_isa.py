"""FASTLSTM_ISA names what is not here: a program can import us, and its first call says which names there are."""

import subprocess
import sys

from fastlstm import _engine

SCRIPT = """
import torch, fastlstm
from torch import nn
lstm, cell, theirs, x = fastlstm.LSTM(3, 4), fastlstm.LSTMCell(3, 4), nn.LSTM(3, 4), torch.randn(5, 2, 3)

def enabled():
    with fastlstm.enabled():
        theirs(x)

for grad in (True, False):
    for call in (lambda: lstm(x), lambda: cell(x[0]), lambda: lstm(x, lengths=[5, 2]), lambda: lstm.trace(x), enabled):
        with torch.set_grad_enabled(grad):
            try: call()
            except ValueError as error: print(error)
            else: print("it ran")
print(repr(fastlstm.load), theirs(x)[0].shape)
"""


def test_the_first_call_names_what_there_is():
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"FASTLSTM_ISA": "garbage"}, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    *refusals, last = said.stdout.splitlines()
    available = ", ".join(_engine.isas())
    assert set(refusals) == {f"FASTLSTM_ISA: instruction set 'garbage' is not available here; available: {available}"}
    assert len(refusals) == 10
    assert last.endswith("torch.Size([5, 2, 4])")
