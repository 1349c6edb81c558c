"""flair: a tagger of words, an LSTM over vectors that LSTMs over characters make, a CRF behind it; texts by a GRU.

Random weights, and dictionaries of these sentences: nothing is downloaded.
"""

import pytest
import torch
from flair.data import Dictionary, Sentence
from flair.embeddings import (
    CharacterEmbeddings,
    DocumentRNNEmbeddings,
    FlairEmbeddings,
    OneHotEmbeddings,
    StackedEmbeddings,
)
from flair.models import LanguageModel, SequenceTagger, TextClassifier

from tests.ecosystem.three_ways import Results, gradients, hold

NOUNS = {"river", "rain", "summer", "gauge", "bank", "water", "level"}
TEXTS = [
    "the river rose after the rain of a long summer",
    "a gauge at the bank reads the level",
    "water fell",
    "after a summer without rain the level of the water at the gauge fell below the bank",
]


def dictionary(items: list[str]) -> Dictionary:
    found = Dictionary()
    for item in items:
        found.add_item(item)
    return found


CHARACTERS, WORDS = dictionary(sorted(set("\n".join(TEXTS)))), dictionary(sorted(set(" ".join(TEXTS).split())))


def sentences() -> list[Sentence]:
    """Anew: a sentence keeps the vectors it was given."""
    found = [Sentence(text) for text in TEXTS]
    for sentence in found:
        sentence.add_label("topic", "river" if "river" in sentence.text else "water")
        for token in sentence:
            token.add_label("pos", "noun" if token.text in NOUNS else "other")
    return found


def tagger(rnn: str) -> SequenceTagger:
    reader = LanguageModel(CHARACTERS, is_forward_lm=True, hidden_size=128, nlayers=1, dropout=0.0)
    vectors = StackedEmbeddings(
        [
            OneHotEmbeddings(WORDS, embedding_length=32),
            CharacterEmbeddings(CHARACTERS),
            FlairEmbeddings(reader, fine_tune=True),
        ]
    )
    tags = dictionary(["noun", "other"])
    return SequenceTagger(vectors, tags, "pos", rnn_type=rnn, hidden_size=128, rnn_layers=2, word_dropout=0.0)


@pytest.mark.parametrize("rnn", ["LSTM", "GRU"])
def test_a_step_of_training_a_tagger(rnn):
    model = tagger(rnn).train()

    def run() -> Results:
        torch.manual_seed(0)  # of the dropout
        loss, _ = model.forward_loss(sentences())
        return {"loss": loss.detach(), **gradients(loss, model)}

    hold("flair", f"SequenceTagger with {rnn}, forward and backward, {len(TEXTS)} sentences", model, run)


def test_tags():
    model = tagger("LSTM").eval()

    def run() -> Results:
        found = sentences()
        model.predict(found, label_name="found", return_probabilities_for_all_classes=True)
        labels = [label for sentence in found for token in sentence for label in token.get_tags_proba_dist("found")]
        return {"scores": torch.tensor([label.score for label in labels])}

    hold("flair", f"SequenceTagger, the tags of {len(TEXTS)} sentences", model, run)


def test_a_step_of_training_a_classifier():
    vectors = DocumentRNNEmbeddings([OneHotEmbeddings(WORDS, embedding_length=32)], hidden_size=128, dropout=0.0)
    model = TextClassifier(vectors, label_type="topic", label_dictionary=dictionary(["river", "water"])).train()

    def run() -> Results:
        loss, _ = model.forward_loss(sentences())
        return {"loss": loss.detach(), **gradients(loss, model)}

    hold("flair", f"TextClassifier by a GRU, forward and backward, {len(TEXTS)} texts", model, run)
