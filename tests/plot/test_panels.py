"""Many units are sorted so that those that do alike stand together, and averaged as it is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from fastlstm.plot.panels import LINES, heat_maps, means, order, to_the_last


def drawn(array, colors="viridis", limits=(0, 1), steps=1):
    figure = Figure()
    axes = figure.subplots()
    said = heat_maps(figure, [axes], [array], colors, limits, steps)
    return said, axes, axes.get_images()[0]


@pytest.mark.parametrize("T", [1, 2, 50, 1000])
def test_units_that_do_alike_stand_together(T):
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 2, 120)
    time = np.linspace(0, 6, T)[:, None]
    array = np.where(kinds, 0.8 + 0.1 * np.sin(time), 0.2 + 0.1 * np.cos(time)) + 0.01 * generator.normal(size=(T, 120))
    sorted_kinds = kinds[order(array)]
    assert np.count_nonzero(np.diff(sorted_kinds)) <= 2
    assert sorted(order(array)) == list(range(120))


@pytest.mark.parametrize("of", ["the first step alone", "one number everywhere", "nothing finite"])
def test_units_that_do_the_same_are_all_there(of):
    array = np.full((4, 40), np.nan if of == "nothing finite" else 0.5)
    if of == "the first step alone":
        array[0] = np.arange(40)
    assert sorted(order(array)) == list(range(40))
    low, high = drawn(array)[2].get_clim()
    assert low < high


def test_the_higher_numbers_stand_above():
    array = np.linspace(0, 1, 40) + np.zeros((3, 1))
    assert drawn(array)[2].get_array()[0, 0] > drawn(array)[2].get_array()[-1, 0]
    assert list(order(array[:1])) == list(range(39, -1, -1))


def test_the_scale_of_many_units_is_from_percentiles_of_the_finite_numbers():
    array = np.linspace(0.3, 0.7, 4000).reshape(40, 100)
    expected = tuple(np.quantile(array, (0.01, 0.99)))
    array[0, 0], array[0, 1] = np.nan, np.inf
    assert drawn(array)[2].get_clim() == pytest.approx(expected, abs=1e-3)
    low, high = drawn(array, "RdBu_r", None)[2].get_clim()
    assert (low, high) == pytest.approx((-expected[1], expected[1]), abs=1e-3)


@settings(max_examples=5)
@given(st.integers(33, 700), st.integers(1, 30), st.integers(1, 7))
def test_a_line_is_the_mean_of_as_many_units_as_it_says(units, T, steps):
    array = np.random.default_rng(0).normal(size=(T, units))
    said, axes, image = drawn(array, steps=steps)
    lines, columns = image.get_array().shape
    together = -(-units // lines)
    assert lines <= LINES
    assert said == f"{units} units, sorted" + (f",\nmeans of {together}" if together > 1 else "")
    assert columns == -(-T // steps)
    np.testing.assert_allclose(image.get_array()[0, 0], array[:steps, order(array)[:together]].mean())
    assert axes.get_ylim() == (units - 0.5, -0.5)
    assert image.get_extent() == [-0.5, columns * steps - 0.5, lines * together - 0.5, -0.5]


def test_means_at_the_end_are_of_what_is_left():
    np.testing.assert_array_equal(means(np.arange(10.0).reshape(2, 5), 1, 2), [[0.5, 2.5, 4], [5.5, 7.5, 9]])
    np.testing.assert_array_equal(means(np.array([[1.0, np.inf, 3]]), 1, 2), [[np.nan, 3]])


@settings(max_examples=20)
@given(st.integers(1, 100_000), st.integers(2, 4))
def test_ticks_begin_at_the_first_and_end_at_the_last(count, ticks):
    found = list(to_the_last(count, ticks)())
    assert (found[0], found[-1]) == (0, count - 1)
    assert all(float(tick).is_integer() for tick in found)
    assert all(np.diff(found) >= 0.15 * (count - 1))
