"""captum: what of a sentence made a classifier say what it says, by gradients through its LSTM, hooks and replaced words.

Random weights. A layer whose output is a tuple captum explains by its input alone (`attribute_to_layer_input`), whosever it is.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import (
    DeepLift,
    FeatureAblation,
    GradientShap,
    IntegratedGradients,
    LayerConductance,
    LayerIntegratedGradients,
)
from torch import Tensor, nn

from tests.ecosystem.three_ways import Results, hold

WORDS, LENGTH, ROWS = 100, 20, 4
POINTS = 20  # of the way from the baseline


class Reader(nn.Module):
    """Of a sentence's vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(32, 64, num_layers=2, batch_first=True, bidirectional=True)
        self.relu = nn.ReLU()
        self.head = nn.Linear(128, 4)

    def forward(self, vectors: Tensor) -> Tensor:
        output, _ = self.lstm(vectors)
        return self.head(self.relu(output).mean(1))


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 32)
        self.reader = Reader()

    def forward(self, sentences: Tensor) -> Tensor:
        return self.reader(self.words(sentences))


def shap(model: Classifier, vectors: Tensor) -> Tensor:
    return GradientShap(model.reader).attribute(vectors, torch.zeros_like(vectors), target=1)


def of_input(model: Classifier, vectors: Tensor) -> Tensor:
    found = LayerConductance(model.reader, model.reader.lstm)
    return found.attribute(vectors, target=1, n_steps=POINTS, attribute_to_layer_input=True)[0]


def behind(model: Classifier, vectors: Tensor) -> Tensor:
    return LayerConductance(model.reader, model.reader.relu).attribute(vectors, target=1, n_steps=POINTS)


METHODS: dict[str, Callable[[Classifier, Tensor], Tensor]] = {
    "IntegratedGradients": lambda model, x: IntegratedGradients(model.reader).attribute(x, target=1, n_steps=POINTS),
    "LayerConductance of the LSTM's input": of_input,
    "LayerConductance behind the LSTM": behind,
    "DeepLift": lambda model, x: DeepLift(model.reader).attribute(x, target=1),
    "GradientShap": shap,
}


def classifier() -> tuple[Classifier, Tensor]:
    return Classifier().eval(), torch.randint(WORDS, (ROWS, LENGTH))


@pytest.mark.parametrize("method", METHODS)
def test_attributions_to_vectors(method):
    model, sentences = classifier()
    vectors = model.words(sentences).detach()

    def run() -> Results:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  GradientShap draws from it
        found = METHODS[method](model, vectors).detach()
        assert found.any()
        return {f"d {method}": found}

    hold("captum", f"{method}, {ROWS} sentences of {LENGTH} words", model, run)


def test_attributions_to_words():
    model, sentences = classifier()

    def run() -> Results:
        integrated = LayerIntegratedGradients(model, model.words)
        baseline = torch.zeros_like(sentences)
        ablated = FeatureAblation(model).attribute(sentences, target=1)  # differences of outputs
        assert ablated.any()
        return {
            "d words": integrated.attribute(sentences, baseline, target=1, n_steps=POINTS).detach(),
            "ablated": ablated.detach(),
        }

    hold("captum", f"LayerIntegratedGradients and FeatureAblation, {ROWS} sentences of {LENGTH} words", model, run)
