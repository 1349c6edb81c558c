"""silero-vad: a voice activity detector, trained, in TorchScript in the wheel; an LSTMCell that `enable` reaches."""

import torch
from silero_vad import load_silero_vad

from tests.ecosystem.three_ways import Results, hold


def test_probabilities_of_speech():
    detector = load_silero_vad()
    t = torch.arange(16000 * 3) / 16000
    wav = torch.sin(2 * torch.pi * 150 * t) * (t % 1 < 0.5) + 0.01 * torch.randn_like(t)

    @torch.no_grad()
    def run() -> Results:
        detector.reset_states()
        return {"probabilities": detector.audio_forward(wav, sr=16000)}

    hold("silero-vad", "3 s of sound in windows of 512", detector, run, converts=False)
