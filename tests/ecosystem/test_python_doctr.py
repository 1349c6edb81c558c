"""python-doctr: optical character recognition, two bidirectional layers of 128 after a convolutional network."""

import torch
from doctr.models.recognition import crnn_vgg16_bn

from tests.ecosystem.conftest import Results, hold


def test_reading_words():
    reader = crnn_vgg16_bn(pretrained=False, pretrained_backbone=False).eval()
    words = torch.rand(8, 3, 32, 128)

    @torch.no_grad()
    def run() -> Results:
        return {"logits": reader(words, return_model_output=True)["out_map"]}

    hold("python-doctr", "8 words", reader, run)
