"""Where are the beats? BeatNet's network, frame by frame of 20 ms: two LSTM layers as a stream, NumPy around it.

Run: python examples/beat_tracking.py [sound.wav]

sound: mono, 16 bits, 22050 Hz; without one, a minute of made-up drums. The first run writes beatnet.safetensors here: the weights
are a pickle, which torch reads, once. From the network's probabilities the package goes on by a particle filter, this by peaks.
"""

import sys
import time
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fastlstm.numpy import LSTM

Array = NDArray[np.float32]

RATE, HOP, WINDOW = 22050, 441, 1411  # samples: 20 ms, 64 ms
PEAK, APART = 0.4, 15  # a beat's probability at least; frames from beat to beat at least


def filterbank() -> Array:
    """(WINDOW // 2, bands): triangles of area 1 over a spectrum's bins, 24 an octave."""
    bins = np.fft.rfftfreq(WINDOW // 2 * 2, 1 / RATE)[:-1]
    bands = 440 * 2 ** (np.arange(-92, 127) / 24)  # Hz; those above the last bin fall into it
    nearest = np.unique(np.abs(bins[:, None] - bands).argmin(0))
    filters = np.zeros((len(bins), len(nearest) - 2), np.float32)
    for k, (start, center, stop) in enumerate(sliding_window_view(nearest, 3)):
        if stop - start < 2:  # narrower than two bins: a single one
            center, stop = start, start + 1
        filters[start:center, k] = np.linspace(0, 1, center - start, endpoint=False)
        filters[center:stop, k] = np.linspace(1, 0, stop - center, endpoint=False)
    return np.asarray(filters / filters.sum(0), np.float32)


class Tracker:
    def __init__(self, path: Path) -> None:
        self.weights = load_file(path)
        self.stream = LSTM.load(path, prefix="lstm.").stream()
        self.window, self.shape = np.zeros(WINDOW, np.float32), np.hanning(WINDOW).astype(np.float32)
        self.filters = filterbank()
        self.features = np.zeros((2, self.filters.shape[1]), np.float32)
        self.loudness, self.rise = self.features  # views: of each band, and since the last frame
        self.pieces = sliding_window_view(self.features.reshape(-1), 10).T

    def step(self, samples: Array) -> Array:
        """441 samples from -1 to 1 -> the probabilities of a beat, a downbeat and neither, 32 ms before their end."""
        self.window = np.append(self.window[HOP:], samples)
        spectrum = np.abs(np.fft.rfft(self.window * self.shape)[: WINDOW // 2]).astype(np.float32)
        loudness = np.log10(1 + spectrum @ self.filters)
        np.maximum(loudness - self.loudness, 0, out=self.rise)
        self.loudness[:] = loudness
        x = np.maximum(self.weights["conv1.weight"][:, 0] @ self.pieces + self.weights["conv1.bias"][:, None], 0)
        x = np.maximum(x[:, :-1:2], x[:, 1::2]).reshape(-1)  # of 263 the last has no partner
        h = self.stream.step(self.weights["linear0.weight"] @ x + self.weights["linear0.bias"])
        scores = np.exp(self.weights["linear.weight"] @ h + self.weights["linear.bias"])
        return np.asarray(scores / scores.sum(), np.float32)


def drums(seconds: float, tempo: float) -> Array:
    """From the first sample on: a kick, a snare, a kick, a snare."""
    rng, beat = np.random.default_rng(0), RATE * 60 / tempo
    t = np.arange(int(0.3 * RATE)) / RATE
    kick = np.sin(2 * np.pi * (50 * t - 3 * np.exp(-30 * t))) * np.exp(-12 * t)
    snare = (0.3 * rng.standard_normal(t.size) + np.sin(2 * np.pi * 190 * t) / 2) * np.exp(-25 * t)
    sound = 1e-3 * rng.standard_normal(int(RATE * seconds) + t.size)
    for k, begin in enumerate(np.arange(0, RATE * seconds, beat).astype(int)):
        sound[begin : begin + t.size] += (kick, snare)[k % 2]
    return np.asarray(0.3 * sound[: int(RATE * seconds)], np.float32)


def read(path: str) -> Array:
    with wave.open(path, "rb") as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise SystemExit(f"{path}: expected mono, 16 bits, {RATE} Hz; `ffmpeg -i {path} -ac 1 -ar {RATE} new.wav`")
        return np.asarray(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768, np.float32)


def converted() -> Path:
    path = Path("beatnet.safetensors")
    if not path.exists():
        package = find_spec("BeatNet")  # found, not imported
        if package is None or package.origin is None:
            raise SystemExit("the weights are BeatNet's: pip install --no-deps BeatNet")
        import torch

        pickled = Path(package.origin).with_name("models") / "model_1_weights.pt"
        save_file({name: t.numpy() for name, t in torch.load(pickled, weights_only=True).items()}, path)
    return path


def main() -> None:
    tracker = Tracker(converted())
    sound = read(sys.argv[1]) if len(sys.argv) > 1 else drums(60, 120)
    seconds, beats, last, before = [], [-APART], np.zeros(3, np.float32), 0.0
    for k in range(len(sound) // HOP):
        start = time.perf_counter()
        now = tracker.step(sound[k * HOP : (k + 1) * HOP])
        seconds.append(time.perf_counter() - start)
        beat = last[:2].sum()
        if beat >= PEAK and before <= beat > now[:2].sum() and k - 1 - beats[-1] >= APART:
            beats.append(k - 1)
            when = (k * HOP - WINDOW / 2) / RATE  # the middle of the window of frame k - 1
            print(f"{when:8.2f} s: {'downbeat' if last[1] > last[0] else 'beat'} ({beat:.2f})", flush=True)
        last, before = now, beat
    if len(beats) > 2:
        print(f"{60 * RATE / HOP / np.median(np.diff(beats[1:])):.0f} beats a minute")
    median, high, highest = 1e6 * np.percentile(seconds, (50, 99, 99.9))
    print(f"{len(seconds)} frames of 20 ms; us a frame: median {median:.0f}, 99% {high:.0f}, 99.9% {highest:.0f}")


if __name__ == "__main__":
    main()
