"""What lengths and resets mean, for tests: every segment of every row is a call of its own on torch.nn.LSTM."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tests.conftest import twin

Hidden = tuple[Tensor, Tensor]


class RowByRow(nn.LSTM):
    """nn.LSTM with `lengths` (N) and `reset` (T, N), or (N, T) with batch_first; (T) unbatched. Dropout is left out."""

    def forward(
        self, x: Tensor, hx: Hidden | None = None, lengths: list[int] | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, Hidden]:
        if x.dim() == 2:
            return self.row(x, hx, len(x) if lengths is None else lengths, reset)
        if self.batch_first:
            x, reset = x.transpose(0, 1), None if reset is None else reset.transpose(0, 1)
        rows = [
            self.row(
                x[:, n],
                None if hx is None else (hx[0][:, n], hx[1][:, n]),
                len(x) if lengths is None else lengths[n],
                None if reset is None else reset[:, n],
            )
            for n in range(x.shape[1])
        ]
        output = torch.stack([output for output, _ in rows], 0 if self.batch_first else 1)
        return output, (torch.stack([h_n for _, (h_n, _) in rows], 1), torch.stack([c_n for _, (_, c_n) in rows], 1))

    def row(self, x: Tensor, hx: Hidden | None, length: int, reset: Tensor | None) -> tuple[Tensor, Hidden]:
        """x (T, I), hx of (cells, features), reset (T)."""
        if hx is None:
            cells = self.num_layers * (2 if self.bidirectional else 1)
            hx = x.new_zeros(cells, self.proj_size or self.hidden_size), x.new_zeros(cells, self.hidden_size)
        starts = [t for t in range(length) if t == 0 or (reset is not None and reset[t])]
        outputs, firsts, lasts = [x.new_zeros(0, self.width)], None, hx
        for start, end in pairwise([*starts, length]):
            from_h_0 = start == 0 and not (reset is not None and reset[0])
            state = [torch.zeros_like(t) for t in hx]
            for k in range(len(hx[0])):
                reverse = self.bidirectional and k % 2 == 1
                if end == length if reverse else from_h_0:  # where each direction begins
                    state = [torch.cat([s[:k], t[k : k + 1], s[k + 1 :]]) for s, t in zip(state, hx, strict=True)]
            output, lasts = super().forward(x[start:end], tuple(state))
            firsts = lasts if firsts is None else firsts
            outputs.append(output)
        if self.bidirectional and firsts is not None:  # the reverse direction ends at the first step
            backward = torch.arange(len(hx[0])) % 2 == 1
            lasts = tuple(torch.where(backward[:, None], a, b) for a, b in zip(firsts, lasts, strict=True))
        output = torch.cat(outputs)
        return pad(output, (0, 0, 0, len(x) - length)), lasts

    @property
    def width(self) -> int:
        return (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)


def row_by_row(lstm: nn.Module, dtype: torch.dtype | None = None) -> nn.LSTM:
    """This reading of `lstm`: its arguments and parameters."""
    theirs = twin(lstm, dtype)
    theirs.dropout = 0.0
    theirs.__class__ = RowByRow
    return theirs
