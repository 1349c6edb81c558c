"""fastlstm.LSTM in place of nn.LSTM in a model that has a checkpoint already.

Run: python examples/drop_in.py
"""

import torch
from torch import nn

import fastlstm


class Tagger(nn.Module):
    """Words in, a tag for each: an embedding, a bidirectional LSTM, a linear layer."""

    def __init__(self, lstm: type[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 32)
        self.lstm = lstm(32, 64, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * 64, 17)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        output, _ = self.lstm(self.embedding(words))
        return self.head(output)


before = Tagger(nn.LSTM).eval()
after = Tagger(fastlstm.LSTM).eval()
after.load_state_dict(before.state_dict())  # key for key the same

words = torch.randint(1000, (8, 40))
with torch.inference_mode():
    difference = (after(words) - before(words)).abs().max().item()
print("engine:", fastlstm.engine(after.lstm, before.embedding(words)))
print(f"largest difference of the scores: {difference:.1e}")
assert difference < 1e-5
