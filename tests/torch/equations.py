"""The layer in plain Python and torch operations, for tests: parameters read by name at every call, and nothing cached.

What a parametrization, a pruning mask or a swapped parameter does to a layer is judged against this module, because
nn.LSTM itself keeps a flat list of its weights that such tools may leave behind.
"""

import torch
from torch import Tensor, nn


class Equations(nn.Module):
    """One direction, no projection: `num_layers` layers of the four gates, x (T, N, I)."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.num_layers, self.hidden_size = source.num_layers, source.hidden_size
        for name, parameter in source.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h_n, c_n = [], []
        for k in range(self.num_layers):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(self, f"{kind}_l{k}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = c = x.new_zeros(x.shape[1], self.hidden_size)
            steps = []
            for x_t in x:
                i, f, g, o = (x_t @ w_ih.t() + b_ih + h @ w_hh.t() + b_hh).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                steps.append(h)
            x = torch.stack(steps)
            h_n.append(h)
            c_n.append(c)
        return x, (torch.stack(h_n), torch.stack(c_n))
