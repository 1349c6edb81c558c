"""A float64 layer of two, with something on either side, and the same model around nn.LSTM."""

import torch
from conftest import twin
from torch import Tensor, nn

from fastlstm import LSTM


def build(**options: object) -> LSTM:
    return LSTM(5, 9, 2, **{"dtype": torch.float64, **options})


class Model(nn.Module):
    """A layer with something on either side, as it is met in the wild."""

    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, lstm.input_size, dtype=lstm.weight_ih_l0.dtype)
        self.lstm = lstm
        self.head = nn.Linear(lstm.hidden_size, 2, dtype=lstm.weight_ih_l0.dtype)

    def forward(self, x: Tensor) -> Tensor:
        output, (h_n, _) = self.lstm(self.encoder(x).tanh())
        return self.head(output) + h_n.mean()


def pair(**options: object) -> tuple[Model, Model]:
    """The model with ours in it, and the same one with nn.LSTM."""
    ours = Model(build(**options))
    theirs = Model(twin(ours.lstm))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    y = model(x)
    y.pow(2).sum().backward()
    return {"output": y.detach()} | {f"d{name.replace('module.', '')}": p.grad for name, p in model.named_parameters()}


X = torch.randn(6, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
