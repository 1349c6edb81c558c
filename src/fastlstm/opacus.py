"""Training with differential privacy by Opacus: `fastlstm.LSTM` and `fastlstm.GRU` as layers that give it samples' gradients.

    import fastlstm.opacus
    from opacus.validators import ModuleValidator

    model = ModuleValidator.fix(model)  # every fastlstm.LSTM is a DPLSTM, every fastlstm.GRU a DPGRU

Importing this module tells Opacus of them. `fastlstm` itself does not import it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import opacus  # noqa: F401  # absolute: the package, not this file
except ModuleNotFoundError as error:
    raise ImportError('fastlstm.opacus needs Opacus: pip install ".[opacus]" in the folder of fastlstm') from error

import torch
from opacus.grad_sample import GradSampleHooks, register_grad_sampler
from opacus.validators import register_module_fixer, register_module_validator
from opacus.validators.errors import ShouldReplaceModuleError, UnsupportedModuleError
from torch import Tensor, nn

from fastlstm.torch import arguments, context, runners
from fastlstm.torch.attributes import dropout_of
from fastlstm.torch.batch import Batch, Results, States, last_of, masks_of
from fastlstm.torch.cell import LSTMCell, StepModule
from fastlstm.torch.dtypes import NAMES
from fastlstm.torch.graph import samples
from fastlstm.torch.gru import GRU, GRUCell
from fastlstm.torch.layer import Layer
from fastlstm.torch.lstm import LSTM

__all__ = ["DPGRU", "DPLSTM"]


class _Call(NamedTuple):
    """A call as Opacus keeps it, beside the input, until its gradients come: what it asks of an activation, this has. ran: the
    input that was computed with, which other hooks may have changed, and what came of it.
    """

    batch: Batch
    x: Tensor
    hx: States
    masks: Sequence[Tensor]
    ran: list[Tensor]

    @property
    def shape(self) -> tuple[int, int]:
        """Opacus finds the number of samples here, whichever dimension it takes for the batch."""
        return (samples.samples_of(self.batch),) * 2

    def dim(self) -> int:
        return len(self.shape)

    def detach(self) -> "_Call":
        """With lengths and resets of its own: the caller may change those before backward, and no error would say so."""
        fields = self.batch._asdict().items()
        rows: dict[str, Any] = {name: t.clone() for name, t in fields if isinstance(t, Tensor)}
        hx = tuple(None if t is None else t.detach() for t in self.hx)
        return self._replace(batch=self.batch._replace(**rows), x=self.ran[0].detach(), hx=hx, ran=[])

    def permute(self, _: Sequence[int]) -> "_Call":
        return self

    def run(self, layer: Layer, x: Tensor) -> Tensor:
        """All results in one tensor. x: as Opacus' hooks watch it."""
        sizes, weights = layer._known(), layer._weights()
        if x.shape != self.x.shape or x.dtype is not self.x.dtype:
            raise RuntimeError(f"a hook made another input of {list(self.x.shape)}: {list(x.shape)}, {x.dtype}")
        runners.check(sizes, x, self.hx, weights, autocast=False)
        with context.without_autocast():
            results = runners.run_with(sizes, self.batch, x, self.hx, weights, self.masks)
        flat = torch.cat([t.reshape(-1) for t in results]).unsqueeze(0)
        self.ran[:] = x, flat
        return flat

    def apart(self, layer: Layer, flat: Tensor) -> Results:
        """output, h_n and c_n of one tensor, in the shapes that `runners.run_with` gives them."""
        sizes, state = layer._known(), self.batch.state
        shapes = [(*self.x.shape[:-1], sizes.D * sizes.out), *((*state, features) for features in sizes.of_states)]
        pieces = torch.split(flat.reshape(-1), [math.prod(shape) for shape in shapes])
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True))


def _watching(layer: Layer) -> list[GradSampleHooks]:
    """What of Opacus has hooks there, where there are gradients to watch."""
    if not torch.is_grad_enabled():
        return []
    owners = [getattr(hook, "__self__", None) for hook in layer._forward_hooks.values()]
    return [owner for owner in owners if isinstance(owner, GradSampleHooks)]


def _refuse_past_hooks(layer: Layer, name: str) -> None:
    """RuntimeError: Opacus would not know of the gradients of what is called so, and add none of them, or all, unclipped."""
    if _watching(layer):
        raise RuntimeError(
            f"{name} goes past Opacus, which watches calls of the layer: call it, or use torch.no_grad()"
        )


def _read(
    layer: Layer,
    watching: Sequence[GradSampleHooks],
    input: Any,
    hx: Any = None,
    lengths: Any = None,
    reset: Any = None,
    mask: Any = None,
    *,
    reset_to: Any = None,
) -> _Call:
    """The arguments and errors of the layer, and the RuntimeErrors that `DPLSTM` says."""
    name, sizes = f"fastlstm.opacus.{type(layer).__name__}", layer._known()
    if type(layer).forward is not _Private.forward or "forward" in vars(layer):
        raise RuntimeError(f"{name}: expected the forward of fastlstm.opacus, of whose gradients Opacus knows")
    if any(owner.force_functorch for owner in watching):
        raise RuntimeError(
            f'{name} computes the gradients of samples itself: expected grad_sample_mode="hooks" or "ghost"'
        )
    if any(layer._parameters.get(own) is None for own in layer._names):
        raise RuntimeError(f"{name}: expected weights that are its own parameters, but something computes them")
    weights = layer._weights()
    dtype = weights[0].dtype
    if not weights[0].is_cpu or dtype not in NAMES:
        raise RuntimeError(
            f"{name}: expected parameters of real numbers on the CPU, got {dtype} on {weights[0].device}"
        )
    if mask is not None:
        lengths = arguments.lengths_of_mask(mask, lengths, input, bool(layer.batch_first))
    batch, x, states = arguments.read(sizes, dtype, layer, context.is_plain(), input, hx, lengths, reset, reset_to)
    if runners.autocasts(x):  # a sum of clipped gradients is no place for 8 bits
        x, states = x.to(dtype), tuple(None if t is None else t.to(dtype) for t in states)
    p = dropout_of(layer)
    return _Call(batch, x, states, masks_of(batch, sizes, x, p) if p else [], [])


def _gradients_of_samples(layer: Any, activations: Sequence[Any], backprops: Tensor) -> dict[Tensor, Tensor]:
    """As Opacus asks for them: (N, *shape) of each parameter that is trained."""
    call = activations[-1]
    of_results = call.apart(layer, backprops)
    found = samples.gradients(layer._known(), call.batch, call.x, call.hx, layer._weights(), call.masks, of_results)
    by_parameter: dict[Tensor, Tensor] = {}
    for name, of_samples in zip(layer._names, found, strict=True):
        parameter = layer._parameters[name]
        if parameter.requires_grad:  # one may have several names
            earlier = by_parameter.get(parameter)
            by_parameter[parameter] = of_samples if earlier is None else earlier + of_samples
    return by_parameter


class _Private(Layer):
    """A layer that Opacus watches through its hooks. They see of a call its arguments by position, and of the gradients of its
    results the first one's. So, while they are there, `forward` takes a `_Call` and returns one tensor with all results in it:
    there is no way past that for a gradient. Other hooks see these two as well.
    """

    if not TYPE_CHECKING:  # LSTM and GRU say what they take

        def __init_subclass__(cls, **named):
            super().__init_subclass__(**named)
            register_grad_sampler(cls)(_gradients_of_samples)

        def __call__(self, *given, **named):
            watching = _watching(self)
            if not watching:
                return super().__call__(*given, **named)
            call = _read(self, watching, *given, **named)
            flat = super().__call__(call.x, call)
            _, ours = call.ran
            if flat.shape != ours.shape or flat.data_ptr() != ours.data_ptr() or ours._version:
                raise RuntimeError(
                    f"{type(self).__name__}: a hook or a subclass changes what forward returns, of which Opacus would not know"
                )
            output, *states = (t.clone() for t in call.apart(self, flat))  # no views, which nobody may change in place
            return call.batch.place(output), last_of(call.batch.order(tuple(states)))

        def forward(self, input, hx=None, lengths=None, reset=None, mask=None, *, reset_to=None):
            if isinstance(hx, _Call):
                return hx.run(self, input)
            _refuse_past_hooks(self, "forward")
            return super().forward(input, hx, lengths, reset, mask, reset_to=reset_to)

        def _trace(self, *given):
            _refuse_past_hooks(self, "trace")
            return super()._trace(*given)


class DPLSTM(_Private, LSTM):
    """`fastlstm.LSTM`, of which Opacus gets each sample's gradients, through output, h_n and c_n: of dense, packed and nested
    batches, lengths, resets, dropout, projections, and several calls.

    Arguments, parameters, state_dict, results and errors are those of `fastlstm.LSTM`; where Opacus does not watch it, so is
    its speed. RuntimeError, where Opacus watches: parameters that are not on the CPU, or not the layer's own (parametrized);
    Opacus computes gradients itself (grad_sample_mode="functorch"); `trace` or `forward` with gradients, of which it would
    not know. Source: Opacus' DPLSTM, in whose place it stands.
    """


class DPGRU(_Private, GRU):
    """`fastlstm.GRU`, as `DPLSTM` is of `fastlstm.LSTM`."""


_PRIVATE: dict[type[nn.Module], type[nn.Module]] = {LSTM: DPLSTM, GRU: DPGRU}


def _advice(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, StepModule):
        layer = name.removesuffix("Cell")
        return (
            f"Opacus can't train a fastlstm.{name}: take a fastlstm.{layer} in its place, whose output is that of all steps, "
            "and which opacus.validators.ModuleValidator.fix(model) makes ready"
        )
    return (
        f"Opacus can't train a fastlstm.{name} as it is: opacus.validators.ModuleValidator.fix(model) makes it a "
        f"fastlstm.opacus.DP{name}, with the same parameters"
    )


def _refuse(module: nn.Module) -> list[UnsupportedModuleError]:
    kind = ShouldReplaceModuleError if type(module) in _PRIVATE else UnsupportedModuleError
    return [kind(_advice(module))]


def _raise(module: nn.Module, activations: Any, backprops: Any) -> Any:
    """Where nobody asked the validator: the hooks see a part of what reaches such a layer."""
    raise RuntimeError(_advice(module))


def _fix(layer: nn.Module, **_: Any) -> nn.Module:
    """Opacus fixes a copy: it is the layer itself that becomes the other."""
    layer.__class__ = _PRIVATE[type(layer)]
    return layer


register_module_validator([*_PRIVATE, LSTMCell, GRUCell])(_refuse)
register_grad_sampler([*_PRIVATE, LSTMCell, GRUCell])(_raise)
register_module_fixer([*_PRIVATE])(_fix)
