"""JAX: XLA compiles a layer written as a scan over the steps; inference, and forward with backward.

XLA reads how many threads it may have when it starts, so the first call in a process decides, and `contender` must be
the first to import jax here.
"""

import os
from collections.abc import Callable
from typing import Any

import torch

os.environ["PJRT_NPROC"] = str(torch.get_num_threads())  # else one for each processor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fastlstm.bench.contender import Contender, Inputs, Results, final_states
from fastlstm.bench.points import Point, work

Parameters = dict[str, Any]  # by torch's names; matrices transposed, which is how a step reads them
States = tuple[Any, ...]  # h and c, or a GRU's h


def contender(inputs: Inputs, train: bool) -> Contender:
    """At inference the parameters are constants of the compiled function, in training its arguments."""
    point = inputs.point
    parameters = {name: jnp.asarray(p.detach().numpy().T) for name, p in inputs.layer.named_parameters()}
    x = jnp.asarray(inputs.x.detach().numpy())  # type: ignore[union-attr]  # a tensor: only dense points come here
    cotangent = jnp.asarray(inputs.cotangent.numpy())
    run: Callable[[], Any]
    if train:

        def step(parameters: Parameters, x: Any, cotangent: Any) -> Any:
            output, pull_back, states = jax.vjp(lambda *inputs: layers(point, *inputs), parameters, x, has_aux=True)
            return output, states, pull_back(cotangent)

        compiled_step = jax.jit(step)

        def run() -> Any:
            return jax.block_until_ready(compiled_step(parameters, x, cotangent))
    else:
        compiled = jax.jit(lambda x: layers(point, parameters, x))

        def run() -> Any:
            return jax.block_until_ready(compiled(x))

    def results(returned: Any) -> Results:
        output, states, *gradients = returned
        values = {"output": output, **dict(zip(final_states(point), states, strict=True))}
        for of_parameters, of_input in gradients:
            values |= {f"{name}.grad": gradient.T for name, gradient in of_parameters.items()}
            values["input.grad"] = of_input
        return {name: torch.from_numpy(np.array(value)) for name, value in values.items()}

    return Contender(run, results, work(point, train))


def layers(point: Point, parameters: Parameters, x: Any) -> tuple[Any, States]:
    """x (T, N, I) -> output (T, N, D*H), the last states (layers*D, N, H)."""
    direction = DIRECTIONS[point.cell]
    states = []
    for layer in range(point.layers):
        outputs = []
        for suffix in (f"l{layer}", f"l{layer}_reverse")[: point.D]:
            weights = [parameters[f"{name}_{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            output, state = direction(weights, x, reverse=suffix.endswith("_reverse"))
            outputs.append(output)
            states.append(state)
        x = jnp.concatenate(outputs, axis=-1)
    return x, tuple(jnp.stack(values) for values in zip(*states, strict=True))


def lstm(weights: list[Any], x: Any, reverse: bool) -> tuple[Any, States]:
    """One layer and direction, x (T, N, I) -> output (T, N, H), (h_n, c_n); the input's product is made for all steps
    at once.
    """
    w_ih, w_hh, b_ih, b_hh = weights
    zeros = jnp.zeros((x.shape[1], w_hh.shape[0]))

    def step(state: States, projected: Any) -> tuple[States, Any]:
        h, c = state
        i, f, g, o = jnp.split(projected + h @ w_hh, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    state, output = lax.scan(step, (zeros, zeros), x @ w_ih + (b_ih + b_hh), reverse=reverse)
    return output, state


def gru(weights: list[Any], x: Any, reverse: bool) -> tuple[Any, States]:
    """As `lstm`, with (h_n,); b_hh stays in the step, where r multiplies that of n."""
    w_ih, w_hh, b_ih, b_hh = weights

    def step(state: States, projected: Any) -> tuple[States, Any]:
        (h,) = state
        r_x, z_x, n_x = jnp.split(projected, 3, axis=-1)
        r_h, z_h, n_h = jnp.split(h @ w_hh + b_hh, 3, axis=-1)
        z = jax.nn.sigmoid(z_x + z_h)
        n = jnp.tanh(n_x + jax.nn.sigmoid(r_x + r_h) * n_h)
        h = (1 - z) * n + z * h
        return (h,), h

    zeros = jnp.zeros((x.shape[1], w_hh.shape[0]))
    state, output = lax.scan(step, (zeros,), x @ w_ih + b_ih, reverse=reverse)
    return output, state


DIRECTIONS = {"LSTM": lstm, "GRU": gru}
