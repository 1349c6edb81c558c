"""g2pM: readings of Chinese characters by a bidirectional LSTM, trained, that the package runs in NumPy, step by step.

examples/chinese_pronunciation.py runs it as one call of a layer.
"""

import numpy as np
import pytest

from tests.ecosystem import examples
from tests.ecosystem.three_ways import LINES


@pytest.fixture(scope="module")
def example():
    return examples.module("chinese_pronunciation")


def sentences(theirs, count: int) -> list[str]:
    """Characters at random, half of them with several readings, of lengths from 1 to 60."""
    rng = np.random.default_rng(0)
    known = sorted(character for character in theirs.char2idx if len(character) == 1 and character in theirs.cedict)
    several = [character for character in known if len(theirs.cedict[character]) > 1]
    return [
        "".join(rng.choice((known, several)[rng.integers(2)]) for _ in range(rng.integers(1, 61))) for _ in range(count)
    ]


def test_the_example_has_the_package_s_readings(example):
    theirs, ours = example.G2pM(), example.Reader()
    texts = [*example.SENTENCES, *sentences(theirs, 300)]
    assert [ours(text) for text in texts] == [theirs(text) for text in texts]
    examples.compare(
        "examples/chinese_pronunciation.py, a sentence",
        len(example.SENTENCES),
        lambda: [theirs(text) for text in example.SENTENCES],
        lambda: [ours(text) for text in example.SENTENCES],
    )


def test_the_example_has_the_package_s_scores(example, monkeypatch):
    """Of one sentence at several places, and of many, padded, at one place each."""
    theirs, ours = example.G2pM(), example.Reader()
    expected = []
    layers = theirs.fc_layer
    monkeypatch.setattr(theirs, "fc_layer", lambda inputs: expected.append(layers(inputs)) or expected[-1])
    rng = np.random.default_rng(1)
    one = rng.integers(1, len(theirs.char2idx), (1, 40), np.int32)
    lengths = rng.integers(1, 31, 50)
    many = np.where(np.arange(30) < lengths[:, None], rng.integers(1, len(theirs.char2idx), (50, 30)), 0).astype(
        np.int32
    )
    difference = 0.0
    for characters, places in ((one, [0, 7, 39]), (many, rng.integers(lengths).tolist())):
        found = ours.scores(characters, places)
        theirs.predict(characters, places)
        assert found.shape == expected[-1].shape
        assert np.ptp(found) > 10
        difference = max(difference, np.abs(found - expected[-1]).max())
    assert difference < 1e-4
    LINES.append(f"examples/chinese_pronunciation.py: scores differ by at most {difference:.1e}")


def test_the_example_runs(tmp_path):
    lines = examples.output("chinese_pronunciation", "银行行长", folder=tmp_path).splitlines()
    assert lines[0] == "yin2 hang2 xing2 zhang3"
