"""Resemblyzer: a speaker encoder, three layers of 256, with its trained weights in the wheel."""

import numpy as np
import torch
from resemblyzer import VoiceEncoder

from tests.ecosystem.three_ways import Results, gradients, hold


def voice(seconds: float) -> np.ndarray:
    """A tone with overtones that slides, in noise: 16 kHz, float32."""
    t = np.arange(int(16000 * seconds)) / 16000
    phase = 2 * np.pi * (120 * t + 15 * np.sin(2 * t))
    noise = np.random.default_rng(0).standard_normal(t.size)
    return (sum(np.sin(k * phase) / k for k in range(1, 12)) / 8 + 0.01 * noise).astype(np.float32)


def test_embedding_an_utterance():
    encoder, wav = VoiceEncoder("cpu", verbose=False), voice(10)

    def run() -> Results:
        embedding, partial, _ = encoder.embed_utterance(wav, return_partials=True)
        return {"embedding": torch.from_numpy(embedding), "partial": torch.from_numpy(partial)}

    hold("resemblyzer", "10 s of speech", encoder, run)


def test_a_step_of_training():
    encoder = VoiceEncoder("cpu", verbose=False)
    mels, other = torch.randn(16, 160, 40).abs(), torch.randn(16, 256)

    def run() -> Results:
        embeddings = encoder(mels)
        return {"embeddings": embeddings.detach(), **gradients((embeddings * other).sum(), encoder)}

    hold("resemblyzer", "forward and backward, 16 utterances", encoder, run)
