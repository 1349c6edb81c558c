"""Hugging Face: models with PyTorchModelHubMixin, saved to a folder as they would be to the hub. Nothing asks the network."""

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin, constants
from torch import Tensor, nn

import fastlstm
import fastlstm.numpy


class Tagger(nn.Module, PyTorchModelHubMixin):
    kind: type[nn.Module] = fastlstm.LSTM

    def __init__(self, features: int, units: int, bidirectional: bool = True) -> None:
        super().__init__()
        self.encoder = self.kind(features, units, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(2 * units if bidirectional else units, 5)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.encoder(x)
        return self.head(output)


class TheirTagger(Tagger):
    """The model as it is before anybody has heard of fastlstm."""

    kind = nn.LSTM


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_model_is_saved_and_comes_back(tmp_path):
    model, x = Tagger(8, 16, bidirectional=False).eval(), torch.randn(3, 20, 8)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "model.safetensors"}
    again = Tagger.from_pretrained(tmp_path)
    assert type(again.encoder) is fastlstm.LSTM
    assert not again.encoder.bidirectional
    assert torch.equal(again(x), model(x))


def test_a_model_with_an_nn_lstm_comes_back_with_ours(tmp_path):
    theirs, x = TheirTagger(8, 16).eval(), torch.randn(3, 20, 8)
    theirs.save_pretrained(tmp_path)
    torch.testing.assert_close(Tagger.from_pretrained(tmp_path)(x), theirs(x))
    converted = TheirTagger.from_pretrained(tmp_path)
    assert fastlstm.convert(converted).changed == ["encoder"]
    torch.testing.assert_close(converted(x), theirs(x))
    converted.save_pretrained(tmp_path / "converted")
    assert torch.equal(TheirTagger.from_pretrained(tmp_path / "converted")(x), theirs(x))


def test_numpy_reads_the_layer_of_a_saved_model_by_its_prefix(tmp_path):
    model, x = Tagger(8, 16).eval(), torch.randn(3, 20, 8)
    model.save_pretrained(tmp_path)
    bare = fastlstm.numpy.LSTM.load(tmp_path / "model.safetensors", prefix="encoder.", batch_first=True)
    output, (h_n, c_n) = bare(x.numpy())
    with torch.no_grad():
        expected, (expected_h, expected_c) = model.encoder(x)
    for found, wanted in ((output, expected), (h_n, expected_h), (c_n, expected_c)):
        assert torch.equal(torch.from_numpy(found), wanted), "the same bits"
