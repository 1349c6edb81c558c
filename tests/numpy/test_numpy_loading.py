"""fastlstm.numpy loads what fastlstm.save, or anyone, wrote as safetensors; without torch in the process."""

import copy
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fastlstm
import fastlstm.numpy

X = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_file_of_save_knows_batch_first(tmp_path, kind):
    layer = getattr(fastlstm, kind)(3, 4, 2, batch_first=True, bidirectional=True)
    fastlstm.save(layer, tmp_path / "layer.safetensors")
    ours = getattr(fastlstm.numpy, kind).load(tmp_path / "layer.safetensors")
    assert repr(ours) == repr(layer)
    x = X.swapaxes(0, 1)
    with torch.no_grad():
        assert np.array_equal(ours(x)[0], layer(torch.from_numpy(x.copy()))[0].numpy())
    assert not getattr(fastlstm.numpy, kind).load(tmp_path / "layer.safetensors", batch_first=False).batch_first


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "LSTMCell", "GRUCell"])
def test_copies_and_pickles(kind):
    state = {name: t.numpy() for name, t in getattr(nn, kind)(3, 4).state_dict().items()}
    layer = getattr(fastlstm.numpy, kind).from_state(state, **({} if "Cell" in kind else {"batch_first": True}))
    x = X[0] if "Cell" in kind else X
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer)
        for theirs, ours in zip(other(x), layer(x), strict=True):
            np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_cells(tmp_path, kind):
    cell = getattr(fastlstm, kind)(3, 4)
    fastlstm.save(cell, tmp_path / "cell.safetensors")
    ours = getattr(fastlstm.numpy, kind).load(tmp_path / "cell.safetensors")
    with torch.no_grad():
        expected = cell(torch.from_numpy(X[0]))
    first = expected[0] if isinstance(expected, tuple) else expected
    found = ours(X[0])
    assert np.array_equal(found[0] if isinstance(found, tuple) else found, first.numpy())


def test_a_file_of_a_whole_model(tmp_path):
    model = nn.ModuleDict({"encoder": nn.LSTM(3, 4), "decoder": nn.GRU(4, 5), "head": nn.Linear(5, 1)})
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    with pytest.raises(
        ValueError, match=r"model.safetensors: no parameters .* it has layers under 'decoder.', 'encoder.'"
    ):
        fastlstm.numpy.LSTM.load(path)
    encoder = fastlstm.numpy.LSTM.load(path, "encoder.")
    decoder = fastlstm.numpy.GRU.load(path, "decoder.")
    with pytest.raises(ValueError, match="such as a GRU has"):
        fastlstm.numpy.LSTM.load(path, "decoder.")
    with torch.no_grad():
        expected, _ = model["decoder"](model["encoder"](torch.from_numpy(X))[0])
    np.testing.assert_allclose(decoder(encoder(X)[0])[0], expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_16_bits_are_widened(tmp_path, dtype):
    lstm = fastlstm.LSTM(3, 4).to(dtype)
    fastlstm.save(lstm, tmp_path / "lstm.safetensors")
    ours = fastlstm.numpy.LSTM.load(tmp_path / "lstm.safetensors")
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    assert ours.dtype == np.dtype(str(wide).removeprefix("torch."))
    for name, weight in ours.weights.items():
        assert np.array_equal(weight, getattr(lstm, name).detach().to(wide).numpy()), name


def test_what_is_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastlstm.numpy.LSTM.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        fastlstm.numpy.LSTM.load(tmp_path)
    (tmp_path / "text").write_text("no safetensors")
    with pytest.raises(ValueError, match="text: no safetensors file"):
        fastlstm.numpy.LSTM.load(tmp_path / "text")


def test_mutated_files_are_refused_or_load(tmp_path):
    fastlstm.save(fastlstm.LSTM(3, 4, 2), tmp_path / "lstm.safetensors")
    whole = (tmp_path / "lstm.safetensors").read_bytes()
    pick = np.random.default_rng(0)
    for _ in range(300):
        mutated = bytearray(whole[: pick.integers(len(whole))] if pick.random() < 0.2 else whole)
        for _ in range(pick.integers(1, 4)):
            if mutated:
                mutated[pick.integers(min(len(mutated), 900))] = pick.integers(256)
        (tmp_path / "mutated").write_bytes(mutated)
        try:
            ours = fastlstm.numpy.LSTM.load(tmp_path / "mutated")
        except ValueError:
            continue
        assert ours.sizes.H >= 1


WITHOUT_TORCH = """
    import sys

    class NoTorch:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "torch":
                raise ImportError("torch is not to be imported")

    sys.meta_path.insert(0, NoTorch())
    import numpy as np
    import fastlstm.numpy

    if {torch}:
        import torch
    lstm = fastlstm.numpy.LSTM.load({path!r})
    output, (h_n, c_n) = lstm(np.zeros((5, 2, 3), np.float32))
    print(lstm.trace(np.zeros((5, 2, 3), np.float32)).layers[0][0].i.shape, "torch" in sys.modules)
"""


@pytest.mark.parametrize("torch_too", [False, True])
def test_nothing_imports_torch(tmp_path, torch_too):
    path = str(tmp_path / "lstm.safetensors")
    fastlstm.save(fastlstm.LSTM(3, 4), path)
    source = textwrap.dedent(WITHOUT_TORCH).format(path=path, torch=torch_too)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    if torch_too:
        assert "torch is not to be imported" in done.stderr, "the test sees an import of torch"
    else:
        assert done.stdout.split("\n")[0] == "(5, 2, 4) False", done.stderr
