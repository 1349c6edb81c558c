"""Is somebody speaking? Silero's voice detector, window by window of 32 ms, with NumPy around a stream of fastlstm.numpy.

Run: python examples/voice_activity.py [sound.wav [weights.safetensors]]

sound: mono, 16 bits, 16 kHz; without one, two minutes of made-up syllables. weights: those of the package's safetensors file,
which are of another training than its TorchScript's and ONNX's; tests/ecosystem/test_silero_vad.py has how to write such a file
of these.
"""

import sys
import time
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors.numpy import load_file

from fastlstm.numpy import LSTM

Array = NDArray[np.float32]

RATE, WINDOW, CONTEXT = 16000, 512, 64  # samples; a window is read together with the last ones before it
SPEECH, SILENCE = 0.5, 0.35  # voice begins above the one probability and ends below the other, as in the package


class Convolution:
    """A convolution over a buffer that is made once: its windows are views of the buffer, its weights one matrix."""

    def __init__(self, weight: Array, bias: Array | float, steps: int, stride: int, padding: int) -> None:
        channels, features, width = weight.shape
        self.padded = np.zeros((steps + 2 * padding, features), np.float32)
        self.input = self.padded[padding : padding + steps]
        self.windows = sliding_window_view(self.padded.reshape(-1), width * features)[:: stride * features]
        self.weight = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, channels))
        self.bias = bias

    def __call__(self) -> Array:
        return np.ascontiguousarray(self.windows) @ self.weight + self.bias


class Detector:
    def __init__(self, path: Path) -> None:
        weights = load_file(path)
        self.sound = np.zeros(CONTEXT + WINDOW + 64, np.float32)  # it ends with its last samples mirrored
        self.spectrum = Convolution(weights["stft_conv.weight"], 0.0, self.sound.size, 128, 0)
        self.layers = [
            Convolution(weights[f"conv{k}.weight"], weights[f"conv{k}.bias"], steps, stride, 1)
            for k, steps, stride in ((1, 4, 1), (2, 4, 2), (3, 2, 2), (4, 1, 1))
        ]
        # Their LSTMCell is a layer by other names, and a layer has streams, which keep the state.
        cell = {name.removeprefix("lstm_cell."): array for name, array in weights.items() if "lstm_cell." in name}
        self.stream = LSTM.from_state({f"{name}_l0": array for name, array in cell.items()}).stream()
        self.head, self.bias = weights["final_conv.weight"].reshape(-1), weights["final_conv.bias"].item()

    def step(self, window: Array) -> float:
        """512 samples from -1 to 1 -> the probability that somebody speaks."""
        sound = self.sound
        sound[:CONTEXT] = sound[WINDOW : WINDOW + CONTEXT]
        sound[CONTEXT : CONTEXT + WINDOW] = window
        sound[CONTEXT + WINDOW :] = sound[-2 - 64 : -2 - 2 * 64 : -1]
        self.spectrum.input[:, 0] = sound
        waves = self.spectrum()
        x = np.hypot(waves[:, :129], waves[:, 129:])
        for layer in self.layers:
            layer.input[:] = x
            x = np.maximum(layer(), 0)
        h = self.stream.step(x[0])
        return float(1 / (1 + np.exp(-(np.maximum(h, 0) @ self.head + self.bias))))


def syllables(seconds: float) -> Array:
    """Something like a voice, three seconds on and two off: a buzz through resonances that move from vowel to vowel."""
    rng, t = np.random.default_rng(0), np.arange(int(RATE * seconds)) / RATE
    vowels = np.array([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)])  # Hz: a, i, u, e
    spoken = vowels[rng.integers(0, len(vowels), int(6 * seconds) + 2)]  # six a second
    formants = [np.interp(6 * t, np.arange(len(spoken)), spoken[:, k]) for k in range(3)]
    pitch = 120 * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * t))
    phase, voice = 2 * np.pi * np.cumsum(pitch) / RATE, np.zeros_like(t)
    for k in range(1, 31):
        for formant, width, gain in zip(formants, (90, 110, 170), (1, 0.5, 0.25), strict=True):
            voice += gain / (1 + ((k * pitch - formant) / width) ** 2) * np.sin(k * phase) / k**0.3
    loudness = np.sqrt(np.sin(np.pi * (6 * t % 1))) * (t % 5 < 3)
    sound = 0.5 * voice / np.abs(voice).max() * loudness + 1e-3 * rng.standard_normal(t.size)
    return np.asarray(sound, np.float32)


def read(path: str) -> Array:
    with wave.open(path, "rb") as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise SystemExit(f"{path}: expected mono, 16 bits, {RATE} Hz; `ffmpeg -i {path} -ac 1 -ar {RATE} new.wav`")
        return np.asarray(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768, np.float32)


def main() -> None:
    package = find_spec("silero_vad")  # found, not imported: to import it is to import torch
    if package is None or package.origin is None:
        raise SystemExit("the weights are silero-vad's: pip install --no-deps silero-vad")
    theirs = Path(package.origin).parent / "data" / "silero_vad_16k.safetensors"
    detector = Detector(Path(sys.argv[2]) if len(sys.argv) > 2 else theirs)
    sound = read(sys.argv[1]) if len(sys.argv) > 1 else syllables(120)
    seconds, speaking = [], False
    for begin in range(0, len(sound) - WINDOW + 1, WINDOW):
        start = time.perf_counter()
        probability = detector.step(sound[begin : begin + WINDOW])
        seconds.append(time.perf_counter() - start)
        if probability < SILENCE if speaking else probability >= SPEECH:
            speaking = not speaking
            print(f"{begin / RATE:8.2f} s: {'voice' if speaking else 'silence'} ({probability:.2f})", flush=True)
    if not seconds:
        raise SystemExit("the sound is shorter than a window")
    median, high, highest = 1e6 * np.percentile(seconds, (50, 99, 99.9))
    print(f"{len(seconds)} windows of 32 ms; us a window: median {median:.0f}, 99% {high:.0f}, 99.9% {highest:.0f}")


if __name__ == "__main__":
    main()
