"""What a type checker and an editor know of a user's code: what calls return, and which are refused.

mypy and pyright (as basedpyright, whose wheels have all it needs) each read the lines below once, as a file of somebody else's
project. The checker must reveal the type that a line ends in, find an error where that says `# refused`, and no other.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

CODE = '''
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastlstm
from fastlstm import numpy as bare

x = torch.randn(5, 3, 10)
h = c = torch.zeros(1, 3, 20)
packed = pack_sequence([torch.randn(5, 10), torch.randn(2, 10)])
nested = torch.nested.nested_tensor([torch.randn(5, 10)], layout=torch.jagged)

lstm = fastlstm.LSTM(10, 20)
reveal_type(lstm(x))  # tuple[Tensor, tuple[Tensor, Tensor]]
reveal_type(lstm(x, (h, c)))  # tuple[Tensor, tuple[Tensor, Tensor]]
reveal_type(lstm.forward(x))  # tuple[Tensor, tuple[Tensor, Tensor]]
reveal_type(lstm(nested))  # tuple[Tensor, tuple[Tensor, Tensor]]
reveal_type(lstm(packed))  # tuple[PackedSequence, tuple[Tensor, Tensor]]
reveal_type(lstm(packed, hx=(h, c)))  # tuple[PackedSequence, tuple[Tensor, Tensor]]
reveal_type(lstm(x, lengths=[5, 2, 0]))  # tuple[Tensor, tuple[Tensor, Tensor]]
lstm(x, lengths=(5, 2, 0))
lstm(x, lengths=np.array([5, 2, 0]))
lstm(x[:, 0], lengths=5)
lstm(x, lengths=torch.tensor([5, 2, 0]), reset=torch.zeros(5, 3, dtype=torch.bool))
lstm(x, mask=torch.ones(5, 3, dtype=torch.bool))
reveal_type(lstm(x, reset=torch.zeros(5, 3, dtype=torch.bool), reset_to=(h, c)))  # tuple[Tensor, tuple[Tensor, Tensor]]
reveal_type(lstm.trace(x, reset=torch.zeros(5, 3, dtype=torch.bool), reset_to=(h, c)))  # Trace
lstm(x[:, 0], reset=[True, False, False, False, True])
reveal_type(lstm.trace(x))  # Trace
reveal_type(lstm.trace(packed).layers[0][0])  # Steps
reveal_type(lstm.stream())  # Stream
reveal_type(lstm.stream().step(x[0]))  # Tensor
reveal_type(lstm.stream().block(x, out=x))  # Tensor
reveal_type(lstm.stream().copy())  # Stream
lstm("x")  # refused
lstm()  # refused
lstm(np.zeros((5, 3, 10)))  # refused
lstm(x, h)  # refused
lstm(x, (h, c, c))  # refused
lstm(x, lenghts=[5, 2, 0])  # refused
lstm(x, lengths="5")  # refused
lstm(x, reset=[[True] * 3] * 5, reset_to=h)  # refused
lstm(x, lengths=[0.5])  # refused
lstm(packed, lengths=[5, 2])  # refused
lstm.forward("x")  # refused
lstm.trace("x")  # refused
lstm.stream().step("x")  # refused
fastlstm.LSTM("10", 20)  # refused

gru = fastlstm.GRU(10, 20)
reveal_type(gru(x))  # tuple[Tensor, Tensor]
reveal_type(gru(x, h, lengths=[5, 2, 0]))  # tuple[Tensor, Tensor]
reveal_type(gru(packed, h))  # tuple[PackedSequence, Tensor]
reveal_type(gru.forward(packed))  # tuple[PackedSequence, Tensor]
reveal_type(gru.trace(x))  # GRUTrace
reveal_type(gru.trace(x).layers[0][0])  # GRUSteps
gru("x")  # refused
gru(x, (h, c))  # refused
gru(packed, reset=[True])  # refused
gru(x, reset=[[True] * 3] * 5, reset_to=(h, c))  # refused

cell = fastlstm.LSTMCell(10, 20)
reveal_type(cell(x[0]))  # tuple[Tensor, Tensor]
reveal_type(cell(x[0], (h, c)))  # tuple[Tensor, Tensor]
cell("x")  # refused
cell(packed)  # refused
cell(x[0], h)  # refused

gru_cell = fastlstm.GRUCell(10, 20)
reveal_type(gru_cell(x[0]))  # Tensor
reveal_type(gru_cell.forward(x[0], h))  # Tensor
gru_cell("x")  # refused
gru_cell(x[0], (h, c))  # refused


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = fastlstm.LSTM(10, 20, batch_first=True)
        self.head = nn.Linear(20, 2)

    def forward(self, words: Tensor, lengths: list[int]) -> Tensor:
        output, (h_n, c_n) = self.encoder(words, lengths=lengths)
        reveal_type(c_n)  # Tensor
        scores: Tensor = self.head(output)
        return scores


class Loud(fastlstm.LSTM):
    """One of theirs, with nothing to say of types."""


reveal_type(Loud(10, 20)(x))  # tuple[Tensor, tuple[Tensor, Tensor]]
nn.Sequential(lstm, gru)

loaded = fastlstm.load(Path("layer.safetensors"))
if isinstance(loaded, fastlstm.GRU):
    reveal_type(loaded(x))  # tuple[Tensor, Tensor]

frames = np.zeros((5, 3, 10), np.float32)
bare_lstm = bare.LSTM.load("layer.safetensors")
reveal_type(bare_lstm(frames)[0])  # ndarray
reveal_type(bare_lstm(frames, (frames, frames))[1][1])  # ndarray
bare_lstm([[0.0, 1.0]])
bare_lstm(torch.zeros(5, 3, 10), lengths=[5, 2, 0], reset=np.zeros((5, 3), bool))
reveal_type(bare_lstm.trace(frames))  # Trace
reveal_type(bare_lstm.stream().step(frames[0]))  # ndarray
reveal_type(bare_lstm.stream().copy())  # Stream
bare_lstm("x")  # refused
bare_lstm(frames, frames)  # refused
bare_lstm(frames, lengths="5")  # refused
bare_lstm(frames, mask=frames)  # refused
bare_lstm.stream().step("x")  # refused

reveal_type(bare.GRU.load("layer.safetensors")(frames)[1])  # ndarray
reveal_type(bare.LSTMCell.load("layer.safetensors")(frames[0])[1])  # ndarray
reveal_type(bare.GRUCell.load("layer.safetensors")(frames[0]))  # ndarray
bare.GRU.load("layer.safetensors")(frames, (frames, frames))  # refused
bare.LSTMCell.load("layer.safetensors")("x")  # refused
bare.GRUCell.load("layer.safetensors")(frames[0], "h")  # refused
'''

LINES = dict(enumerate(CODE.splitlines(), start=1))
SAID = {line: text.rpartition("  # ")[2] for line, text in LINES.items() if "  # " in text}

Found = list[tuple[int, str, str]]  # line, "error" or another word, message


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.py"
    path.write_text(CODE)
    return path


def short(revealed: str) -> str:
    """A type without where its name is from, which the checkers write each in a way of its own; of NumPy's arrays the name."""
    names = re.sub(r"\b(?:\w+\.)+(?=\w)", "", revealed)
    for named_tuple in (r"^tuple\[.*, fallback=(\w+)\]$", r"tuple\[[^][]*, fallback=(\w+)\]"):
        names = re.sub(named_tuple, r"\1", names)
    return re.sub(r"^(?:NDArray|ndarray)\b.*", "ndarray", names)


def check(found: Found) -> None:
    revealed, refused, wrong = {}, set(), []
    for line, kind, message in found:
        shown = re.search(r'(?:Revealed type is|Type of ".*" is) "(.*)"', message)
        if shown:
            revealed[line] = short(shown[1])
        elif kind == "error":
            refused.add(line)
            if SAID.get(line) != "refused":
                wrong.append(f"{LINES[line]}: {message}")
    assert not wrong
    assert revealed == {line: said for line, said in SAID.items() if said != "refused"}
    assert refused == {line for line, said in SAID.items() if said == "refused"}


def test_mypy_knows_what_calls_return(code: Path) -> None:
    # By the project's settings, which are strict, so that the cache is `make lint`'s: to read torch anew takes 15 seconds.
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    check(list(of_mypy(done.stdout)))


def of_mypy(text: str) -> Iterator[tuple[int, str, str]]:
    for line in text.splitlines():
        parts = re.fullmatch(r".*theirs\.py:(\d+): (error|note): (.*)", line)
        assert parts, line
        yield int(parts[1]), parts[2], parts[3]


def test_pyright_knows_what_calls_return(code: Path) -> None:
    # "standard": pyright's own default, without what basedpyright adds.
    settings = {"typeCheckingMode": "standard", "include": [code.name]}
    (code.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [str(Path(sys.executable).with_name("basedpyright")), "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=code.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    entries = json.loads(done.stdout)["generalDiagnostics"]
    check([(entry["range"]["start"]["line"] + 1, entry["severity"], entry["message"]) for entry in entries])
