"""The grids by name: which points each has, and how a point becomes the calls that are timed in turn."""

import copy
from collections.abc import Callable
from typing import NamedTuple

from fastlstm.bench import in_torch, models, points
from fastlstm.bench.contender import OURS, Contender, Inputs, Prepare, draw_inputs
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point


class Extra(NamedTuple):
    """A figure of a point beside the ratios, from what was measured there."""

    name: str
    value: Callable[[Measured], float]


class Grid(NamedTuple):
    """contenders: from the inputs of a point, whether to train, and the peers by label; the peers first, then ours.

    any_peer: whether others than torch can be asked for.
    """

    points: list[Point]
    contenders: Callable[[Inputs, bool, dict[str, Prepare]], dict[str, Contender]]
    extras: tuple[Extra, ...] = ()
    any_peer: bool = False


def side_by_side(inputs: Inputs, train: bool, peers: dict[str, Prepare]) -> dict[str, Contender]:
    """The peers and ours."""
    return {label: prepare(inputs, train) for label, prepare in {**peers, OURS: in_torch.ours}.items()}


DENSE = f"{OURS} dense"


def beside_dense(packed: Inputs, train: bool, peers: dict[str, Prepare]) -> dict[str, Contender]:
    """Also our own time for a dense batch of the same T and N, which computes something else: nothing to compare."""
    dense = in_torch.ours(draw_inputs(packed.point._replace(packed=False)), train)
    return {**side_by_side(packed, train, peers), DENSE: dense._replace(results=lambda returned: {})}


def packed_over_share(measured: Measured) -> float:
    """Packed over dense time, over the share of the dense batch's steps that the packed one has."""
    point = measured.point
    share = point.rows / (point.T * point.N)
    return measured.microseconds(OURS) / measured.microseconds(DENSE) / share


FLOAT32 = f"{OURS} float32"


def beside_float32(narrow: Inputs, train: bool, peers: dict[str, Prepare]) -> dict[str, Contender]:
    """Also our own time for the same numbers in float32."""
    wide = Inputs(
        narrow.point._replace(dtype="float32"),
        copy.deepcopy(narrow.layer).float(),
        narrow.x.float(),
        narrow.cotangent.float(),
    )
    return {**side_by_side(narrow, train, peers), FLOAT32: in_torch.ours(wide, train)}


def over_float32(measured: Measured) -> float:
    """Our time over our own in float32."""
    return measured.microseconds(OURS) / measured.microseconds(FLOAT32)


def whole_models(inputs: Inputs, train: bool, peers: dict[str, Prepare]) -> dict[str, Contender]:
    """A model with either layer, and the layers alone; the only peer is torch's layer."""
    (theirs,) = peers
    return models.contenders(inputs, train, theirs)


GRIDS = {
    "people": Grid(points.PEOPLE, side_by_side, any_peer=True),
    "ragged": Grid(points.RAGGED, beside_dense, (Extra("packed / its share of dense", packed_over_share),)),
    "proj": Grid(points.PROJ, side_by_side),
    "float64": Grid(points.FLOAT64, side_by_side),
    "bfloat16": Grid(points.BFLOAT16, beside_float32, (Extra("bfloat16 / float32", over_float32),)),
    "models": Grid(
        points.MODELS,
        whole_models,
        (Extra("predicted gain", models.predicted_gain), Extra("gain / predicted", models.gain_over_prediction)),
    ),
}
