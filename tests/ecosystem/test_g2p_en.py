"""g2p_en: pronunciations of English words by two GRUs, trained, that the package runs in NumPy, step by step.

examples/english_pronunciation.py runs one as a layer, the other as a stream.
"""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.ecosystem import examples
from tests.ecosystem.three_ways import LINES


@pytest.fixture
def theirs(monkeypatch):
    """Without the dictionary, which it would fetch as it is imported: words that it has aren't read by the network."""
    monkeypatch.setattr("nltk.download", lambda name: False)
    module = import_module("g2p_en.g2p")
    monkeypatch.setattr(module, "cmudict", SimpleNamespace(dict=dict))
    return module.G2p()


@pytest.fixture
def example():
    return examples.module("english_pronunciation")


@pytest.fixture
def ours(theirs, example):
    return example.Speaker(Path(import_module("g2p_en").__file__).with_name("checkpoint20.npz"))


def test_the_example_has_the_package_s_names(theirs, example):
    assert theirs.graphemes == example.LETTERS
    assert theirs.phonemes == example.SOUNDS


def test_the_example_has_the_package_s_pronunciations(theirs, ours, example):
    rng = np.random.default_rng(0)
    made_up = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz'"), rng.integers(1, 16))) for _ in range(300)]
    words = [*example.WORDS, *made_up]
    assert [list(ours.speak(word)) for word in words] == [theirs.predict(word) for word in words]
    examples.compare(
        "examples/english_pronunciation.py, a word",
        len(example.WORDS),
        lambda: [theirs.predict(word) for word in example.WORDS],
        lambda: [list(ours.speak(word)) for word in example.WORDS],
    )


def test_the_example_has_the_package_s_states(theirs, ours, example):
    word = "antidisestablishmentarianism"
    weights = theirs.variables
    x = theirs.encode(word)
    read = theirs.gru(x, x.shape[1], *(weights[f"enc_{name}"] for name in ("w_ih", "w_hh", "b_ih", "b_hh")))
    output, h = ours.reader(x[0])
    sounds = weights["dec_emb"][[2, *(theirs.p2idx[sound] for sound in theirs.predict(word))]]
    spoken = theirs.gru(
        sounds[None], len(sounds), *(weights[f"dec_{name}"] for name in ("w_ih", "w_hh", "b_ih", "b_hh")), read[:, -1]
    )
    ours.stream.state = h[:, None]
    difference = max(np.abs(output - read[0]).max(), np.abs(ours.stream.block(sounds) - spoken[0]).max())
    assert difference < 1e-5
    LINES.append(f"examples/english_pronunciation.py: states differ by at most {difference:.1e}")


def test_the_example_runs(tmp_path):
    lines = examples.output("english_pronunciation", "Activationist", folder=tmp_path).splitlines()
    assert lines[0] == "activationist: AE2 K T IH0 V EY1 SH AH0 N IH0 S T"
