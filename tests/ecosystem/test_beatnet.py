"""BeatNet: beats and downbeats in music, two trained layers of 150. examples/beat_tracking.py runs its network frame by frame.

Of the package its network's module alone is imported: the others want madmom and an old numba.
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from BeatNet import model as theirs

from tests.ecosystem import examples
from tests.ecosystem.three_ways import LINES, Results, hold


@pytest.fixture
def network() -> theirs.BDA:
    found = theirs.BDA(272, 150, 2, "cpu").eval()
    path = Path(theirs.__file__).with_name("models") / "model_1_weights.pt"
    found.load_state_dict(torch.load(path, weights_only=True))
    return found


@pytest.fixture
def example(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the example leaves a file
    return examples.module("beat_tracking")


def frames(sound: np.ndarray, hop: int) -> np.ndarray:
    return sound[: len(sound) // hop * hop].reshape(-1, hop)


def from_zeros(network: theirs.BDA) -> None:
    """The module keeps its state from call to call."""
    network.hidden, network.cell = torch.zeros(2, 1, 150), torch.zeros(2, 1, 150)


def test_activations_of_ten_seconds(network):
    features = torch.randn(1, 500, 272, generator=torch.Generator().manual_seed(0)).abs()

    @torch.no_grad()
    def run() -> Results:
        from_zeros(network)
        return {"activations": network.final_pred(network(features)[0])}

    hold("BeatNet", "10 s in frames of 20 ms", network, run)


def test_the_example_has_the_package_s_probabilities(network, example):
    path = example.converted()
    tracker, found, features = example.Tracker(path), [], []
    sound = frames(example.drums(20, 120), example.HOP)
    for samples in sound:
        found.append(tracker.step(samples))
        features.append(tracker.features.reshape(-1).copy())
    inputs = torch.from_numpy(np.array(features))[None, :, None]

    @torch.no_grad()
    def theirs() -> np.ndarray:
        from_zeros(network)
        return np.array([network.final_pred(network(frame)[0])[:, 0].numpy() for frame in inputs.unbind(1)])

    def ours() -> None:
        step = example.Tracker(path).step
        for samples in sound:
            step(samples)

    expected = theirs()
    assert expected[:, 2].min() < 0.1
    assert expected[:, 2].max() > 0.9
    difference = np.abs(np.array(found) - expected).max()
    assert difference < 1e-5
    LINES.append(f"examples/beat_tracking.py: probabilities differ by at most {difference:.1e}")
    examples.compare("examples/beat_tracking.py, a frame (its features, too)", len(sound), theirs, ours)


def test_the_example_s_features_are_what_the_network_was_trained_on(example):
    """The package's own recording: a kick drum, 120 beats a minute, the first at 0.5 s."""
    path = Path(theirs.__file__).with_name("test_data") / "808kick120bpm.mp3"
    recording, rate = soundfile.read(path, dtype="float32")
    assert rate == 2 * example.RATE
    sound = recording.mean(1).reshape(-1, 2).mean(1)
    tracker = example.Tracker(example.converted())
    beat = np.array([tracker.step(samples)[:2].sum() for samples in frames(sound, example.HOP)])
    middles = (np.arange(len(beat)) + 1) * example.HOP / example.RATE - 0.032  # of the frames' windows
    beats = np.arange(1, 20) / 2
    away = np.abs(middles[:, None] - beats)
    assert all(beat[column < 0.03].max() > 0.8 for column in away.T)
    assert beat[(away.min(1) > 0.08) & (middles > 0.3)].max() < 0.3


@pytest.mark.parametrize("given", [False, True], ids=["made up", "given"])
def test_the_example_finds_the_beats(given, example, tmp_path):
    example.converted()  # with torch, once
    arguments = []
    if given:
        soundfile.write("sound.wav", example.drums(60, 120), example.RATE, "PCM_16")
        arguments = ["sound.wav"]
    lines = examples.output("beat_tracking", *arguments, folder=tmp_path).splitlines()
    assert lines[-2] == "120 beats a minute"
    times = np.array([float(line.split()[0]) for line in lines[:-2]])
    assert len(times) == 120
    assert np.abs(times - 0.5 * np.arange(120)).max() < 0.05
