"""What lengths and resets mean, for tests: every segment of every row is a call of its own on torch.nn.LSTM or torch.nn.GRU."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tests.conftest import States, like, states_of, twin


class RowByRow(nn.Module):
    """torch's layer with `lengths` (N) and `reset` (T, N), or (N, T) with batch_first; (T) unbatched. Dropout is left out."""

    def forward(
        self, x: Tensor, hx: States | None = None, lengths: list[int] | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, States]:
        if x.dim() == 2:
            return self.row(x, hx, len(x) if lengths is None else lengths, reset)
        if self.batch_first:
            x, reset = x.transpose(0, 1), None if reset is None else reset.transpose(0, 1)
        rows = [
            self.row(
                x[:, n],
                None if hx is None else like(hx, [t[:, n] for t in states_of(hx)]),
                len(x) if lengths is None else lengths[n],
                None if reset is None else reset[:, n],
            )
            for n in range(x.shape[1])
        ]
        output = torch.stack([output for output, _ in rows], 0 if self.batch_first else 1)
        states = zip(*(states_of(last) for _, last in rows), strict=True)
        return output, like(rows[0][1], [torch.stack(list(of_rows), 1) for of_rows in states])

    def row(self, x: Tensor, hx: States | None, length: int, reset: Tensor | None) -> tuple[Tensor, States]:
        """x (T, I), hx of (cells, features), reset (T)."""
        if hx is None:
            hx = self.zeros(x)
        given = states_of(hx)
        starts = [t for t in range(length) if t == 0 or (reset is not None and reset[t])]
        outputs, firsts, lasts = [x.new_zeros(0, self.width)], None, given
        for start, end in pairwise([*starts, length]):
            from_h_0 = start == 0 and not (reset is not None and reset[0])
            state = [torch.zeros_like(t) for t in given]
            for k in range(len(given[0])):
                reverse = self.bidirectional and k % 2 == 1
                if end == length if reverse else from_h_0:  # where each direction begins
                    state = [torch.cat([s[:k], t[k : k + 1], s[k + 1 :]]) for s, t in zip(state, given, strict=True)]
            output, last = super().forward(x[start:end], like(hx, state))
            lasts = states_of(last)
            firsts = lasts if firsts is None else firsts
            outputs.append(output)
        if self.bidirectional and firsts is not None:  # the reverse direction ends at the first step
            backward = torch.arange(len(given[0])) % 2 == 1
            lasts = tuple(torch.where(backward[:, None], a, b) for a, b in zip(firsts, lasts, strict=True))
        output = torch.cat(outputs)
        return pad(output, (0, 0, 0, len(x) - length)), like(hx, lasts)

    def zeros(self, x: Tensor) -> States:
        """h_0 of one row, and c_0."""
        cells, out = self.num_layers * (2 if self.bidirectional else 1), self.proj_size or self.hidden_size
        h_0 = x.new_zeros(cells, out)
        return (h_0, x.new_zeros(cells, self.hidden_size)) if isinstance(self, nn.LSTM) else h_0

    @property
    def width(self) -> int:
        return (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)


class RowByRowLSTM(RowByRow, nn.LSTM):
    pass


class RowByRowGRU(RowByRow, nn.GRU):
    pass


READINGS: dict[str, Any] = {"LSTM": RowByRowLSTM, "GRU": RowByRowGRU}


def row_by_row(lstm: nn.Module, dtype: torch.dtype | None = None) -> Any:
    """This reading of `lstm`: its arguments and parameters."""
    theirs = twin(lstm, dtype)
    theirs.dropout = 0.0
    theirs.__class__ = READINGS[lstm.mode]
    return theirs
