"""What reset_to means, for tests: torch's own layer, a layer and a step at a time, in whose states reset puts the given ones."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from tests.conftest import States, like, states_of, twin


class StepByStep(nn.Module):
    """torch's layer of one direction with `lengths` (N), and `reset` and `reset_to` in the layout of x."""

    def forward(
        self,
        x: Tensor,
        hx: States | None = None,
        lengths: list[int] | int | None = None,
        reset: Tensor | None = None,
        reset_to: States | None = None,
    ) -> tuple[Tensor, States]:
        if x.dim() == 2:
            at = 0 if self.batch_first else 1
            one = None if hx is None else like(hx, [t.unsqueeze(1) for t in states_of(hx)])
            to = like(reset_to, [t.unsqueeze(at) for t in states_of(reset_to)])
            own = None if lengths is None else [lengths]
            output, last = self(x.unsqueeze(at), one, own, reset.unsqueeze(at), to)
            return output.squeeze(at), like(last, [t.squeeze(1) for t in states_of(last)])
        given = states_of(reset_to)
        if self.batch_first:
            x, reset, given = x.transpose(0, 1), reset.transpose(0, 1), tuple(t.transpose(0, 1) for t in given)
        T, N = x.shape[:2]
        inside = torch.arange(T)[:, None] < torch.tensor([T] * N if lengths is None else lengths)
        if hx is None:
            hx = like(reset_to, [t.new_zeros(t.shape[2], N, t.shape[3]) for t in given])
        last = []
        for k in range(self.num_layers):
            if k:
                x = dropout(x, self.dropout, self.training)
            states, outputs = [t[k : k + 1] for t in states_of(hx)], []
            for t in range(T):
                here, anew = inside[t, :, None], (reset & inside)[t, :, None]
                states = [torch.where(anew, to[t, :, k], s) for to, s in zip(given, states, strict=True)]
                output, after = self.step(k, x[t : t + 1], states)
                states = [torch.where(here, new, s) for new, s in zip(after, states, strict=True)]
                outputs.append(torch.where(here, output, 0.0))
            x = torch.cat(outputs)
            last.append(states)
        output = x.transpose(0, 1) if self.batch_first else x
        return output, like(hx, [torch.cat(of_layers) for of_layers in zip(*last, strict=True)])

    def step(self, layer: int, x: Tensor, states: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x (1, N, features), states (1, N, features) -> output, the next states."""
        weights, options = self.all_weights[layer], (self.bias, 1, 0.0, False, False, False)
        if isinstance(self, nn.LSTM):
            output, h, c = torch.lstm(x, states, weights, *options)
            return output, (h, c)
        output, h = torch.gru(x, states[0], weights, *options)
        return output, (h,)


class StepByStepLSTM(StepByStep, nn.LSTM):
    pass


class StepByStepGRU(StepByStep, nn.GRU):
    pass


READINGS: dict[str, Any] = {"LSTM": StepByStepLSTM, "GRU": StepByStepGRU}


def step_by_step(layer: nn.Module, dtype: torch.dtype | None = None) -> Any:
    """This reading of `layer`: its arguments and parameters, and its dropout."""
    theirs = twin(layer, dtype)
    theirs.__class__ = READINGS[layer.mode]
    return theirs
