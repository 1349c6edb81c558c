"""speechbrain: a recognizer's encoder (CRDNN), its layers over sounds of different lengths, a decoder of cells with attention.

Random weights.
"""

import sys
from importlib import import_module
from types import ModuleType

import pytest
import torch
from torch import nn

from tests.ecosystem.three_ways import Results, gradients, hold

# It imports torchaudio, which on PyPI wants CUDA's libraries, and which only its reading of files and its effects call.
with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    import_module("speechbrain.nnet.CNN")  # CRDNN would when it is made
    from speechbrain.lobes.models.CRDNN import CRDNN
    from speechbrain.nnet.RNN import GRU, LSTM, AttentionalRNNDecoder

ROWS, FRAMES, FEATURES = 4, 120, 40


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_a_step_of_training(layer):
    # Without its last blocks: behind their batch norm a mean has no gradient, and what is left of one is rounding.
    model = CRDNN(
        input_size=FEATURES, cnn_channels=[8, 16], rnn_class=layer, rnn_layers=2, rnn_neurons=128, dnn_blocks=0
    )
    x = torch.randn(ROWS, FRAMES, FEATURES)

    def run() -> Results:
        torch.manual_seed(0)  # of the dropout between the layers
        output = model(x)
        return {"output": output.detach(), **gradients(output.square().mean(), model)}

    what = f"CRDNN with {layer.__name__}, forward and backward, {ROWS} x {FRAMES} frames"
    hold("speechbrain", what, model, run)


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_sounds_of_different_lengths(layer):
    model = layer(hidden_size=128, input_size=FEATURES, num_layers=2, bidirectional=True)
    x, lengths = torch.randn(ROWS, FRAMES, FEATURES), torch.tensor([1.0, 0.9, 0.5, 0.3])

    def run() -> Results:
        output, _ = model(x, lengths=lengths)
        return {"output": output.detach(), **gradients(output.square().mean(), model)}

    hold("speechbrain", f"{layer.__name__}, packed, forward and backward, {ROWS} sounds", model, run)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_decoder_with_attention(cell):
    sizes = {"enc_dim": 64, "input_size": 32, "hidden_size": 128, "attn_dim": 64, "num_layers": 2}
    model = AttentionalRNNDecoder(rnn_type=cell, attn_type="location", channels=4, kernel_size=7, **sizes)
    written, heard = torch.randn(ROWS, 20, 32), torch.randn(ROWS, FRAMES, 64)

    def run() -> Results:
        output, attention = model(written, heard, torch.ones(ROWS))
        return {"output": output.detach(), "attention": attention.detach(), **gradients(output.square().mean(), model)}

    assert any(isinstance(module, nn.LSTMCell | nn.GRUCell) for module in model.modules())
    hold("speechbrain", f"AttentionalRNNDecoder of {cell} cells, forward and backward, 20 steps", model, run)
