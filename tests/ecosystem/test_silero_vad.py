"""silero-vad: a voice activity detector, trained, in TorchScript in the wheel; an LSTMCell that `enable` reaches.

examples/voice_activity.py runs it without torch, on either of the trainings that the wheel has.
"""

import wave
from pathlib import Path

import numpy as np
import pytest
import silero_vad
import torch
from safetensors.numpy import load_file, save_file
from silero_vad import load_silero_vad

from tests.ecosystem import examples
from tests.ecosystem.three_ways import LINES, Results, hold

# TorchScript's names, and the ones of the package's safetensors file.
NAMES = {
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{f"encoder.{k}.reparam_conv.{kind}": f"conv{k + 1}.{kind}" for k in range(4) for kind in ("weight", "bias")},
    **{
        f"decoder.rnn.{kind}_{side}": f"lstm_cell.{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")
    },
    **{f"decoder.decoder.2.{kind}": f"final_conv.{kind}" for kind in ("weight", "bias")},
}


def test_probabilities_of_speech():
    detector = load_silero_vad()
    t = torch.arange(16000 * 3) / 16000
    wav = torch.sin(2 * torch.pi * 150 * t) * (t % 1 < 0.5) + 0.01 * torch.randn_like(t)

    @torch.no_grad()
    def run() -> Results:
        detector.reset_states()
        return {"probabilities": detector.audio_forward(wav, sr=16000)}

    hold("silero-vad", "3 s of sound in windows of 512", detector, run, converts=False)


@pytest.mark.parametrize("training", ["of the TorchScript", "of the safetensors file"])
def test_the_example_has_the_package_s_probabilities(training, tmp_path):
    example, detector = examples.module("voice_activity"), load_silero_vad()
    path = Path(silero_vad.__file__).parent / "data" / "silero_vad_16k.safetensors"
    model = detector._model
    if training == "of the TorchScript":
        path, state = tmp_path / "weights.safetensors", model.state_dict()
        save_file({name: state[theirs].numpy() for theirs, name in NAMES.items()}, path)
    else:
        weights = load_file(path)
        model.load_state_dict({theirs: torch.from_numpy(weights[name]) for theirs, name in NAMES.items()})
    sound = example.syllables(20)
    sound = sound[: len(sound) // example.WINDOW * example.WINDOW]

    @torch.no_grad()
    def theirs() -> np.ndarray:
        detector.reset_states()
        return detector.audio_forward(torch.from_numpy(sound), sr=example.RATE)[0].numpy()

    def ours() -> list[float]:
        step = example.Detector(path).step
        return [step(window) for window in sound.reshape(-1, example.WINDOW)]

    expected = theirs()
    assert expected.min() < 0.01
    assert expected.max() > 0.9
    difference = np.abs(np.array(ours()) - expected).max()
    assert difference < 1e-5
    LINES.append(f"examples/voice_activity.py, weights {training}: probabilities differ by at most {difference:.1e}")
    examples.compare("examples/voice_activity.py, a window", len(expected), theirs, ours)


def test_the_example_finds_the_voices(tmp_path):
    example = examples.module("voice_activity")
    made_up = examples.output("voice_activity", folder=tmp_path)
    assert made_up.count(": voice") == made_up.count(": silence") == 24  # three seconds of every five
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, example.RATE, 0, "NONE", ""))
        file.writeframes((32767 * example.syllables(120)).astype("<i2").tobytes())
    read = examples.output("voice_activity", "sound.wav", folder=tmp_path)
    assert read.count(": voice") == 24
