"""The page in a browser: its shapes, words and numbers are the package's."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page

import fastlstm
import fastlstm.numpy
from fastlstm.shapes import describe
from tests.live.conftest import SITE
from tests.live.controls import choose, computed, flat, settle, table
from tests.live.settings import arguments_of, random_settings
from tests.tolerances import INFERENCE

Saved = Any


def save(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click("#save")
    path = folder / "saved.safetensors"
    download.value.save_as(path)
    return path


def drop(page: Page, path: Path) -> None:
    page.set_input_files("#file", path)
    page.wait_for_function("name => document.querySelector('#weights-note').textContent.includes(name)", arg=path.name)
    settle(page)


def compare(page: Page, layer: Any, given: dict[str, Any]) -> None:
    """The page's call beside the same of a layer on NumPy arrays: output, the last states, and every step."""
    here = computed(page)
    T, N, I = here["T"], here["N"], given["input_size"]
    swapped = given["batch_first"] and not given["unbatched"]
    lead = (T,) if given["unbatched"] else (N, T) if swapped else (T, N)
    x = np.array(here["x"], layer.dtype).reshape(*lead, I)
    lengths = np.array(here["lengths"]).reshape(() if given["unbatched"] else (N,))
    reset = np.array(here["resets"], bool).reshape(lead)
    layer.batch_first = given["batch_first"]
    trace = layer.trace(x, lengths=lengths, reset=reset)
    for name in ("output", "h_n", "c_n"):
        if hasattr(trace, name):
            np.testing.assert_allclose(flat(here[name]), flat(getattr(trace, name)), **INFERENCE, err_msg=name)
    for found, expected in zip(here["layers"], trace.layers, strict=True):
        for side, steps in zip(found, expected, strict=True):
            assert set(side) == set(steps._fields)
            for letter in side:
                np.testing.assert_allclose(
                    flat(side[letter]), flat(getattr(steps, letter)), **INFERENCE, err_msg=letter
                )


@pytest.mark.parametrize("how", ["file", "http"])
def test_it_opens_and_runs(open_page, how):
    page = open_page(how)
    assert page.inner_text("#code") == "LSTM(1, 8)"
    assert "352 parameters" in page.inner_text("#status")


@pytest.mark.parametrize("seed", range(20))
def test_a_setting(open_page, tmp_path, seed):
    page = open_page()
    given = random_settings(seed, wrong=seed % 4 == 3)
    choose(page, given)
    said = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.manual_seed(0)
        dtype = getattr(torch, given["dtype"] or "float32")
        try:
            layer = getattr(fastlstm, given["cell"])(**arguments_of(given), dtype=dtype)
        except (TypeError, ValueError) as error:
            said = f"{type(error).__name__} {error}"
    if said is not None:
        assert page.inner_text("#complaint") == said
        assert page.locator("[aria-invalid=true]").count() == 1
        return
    assert page.inner_text("#complaint") == "".join(f"UserWarning {w.message}" for w in caught)
    names = ("input_size", "hidden_size", "num_layers", "length", "bidirectional", "proj_size", "batch_first", "bias")
    own = {name: given[name] for name in names}
    batch = 1 if given["unbatched"] else given["batch"]
    described = describe(**own, batch=batch, unbatched=given["unbatched"], cell=given["cell"])
    tensors = [[t.name, t.shape.letters, str(t.shape.numbers), t.meaning] for t in described.tensors]
    assert table(page, "tensors") == tensors
    parameters = [[p.name, p.shape.letters, str(p.shape.numbers), f"{p.size:,}"] for p in described.parameters]
    assert table(page, "parameters") == parameters

    path = save(page, tmp_path)
    saved = fastlstm.load(path)
    assert saved.extra_repr() == layer.extra_repr()
    for name, parameter in layer.state_dict().items():
        assert torch.equal(saved.state_dict()[name], parameter), name
    compare(page, getattr(fastlstm.numpy, given["cell"]).load(path), given)


def test_every_dtype_has_torchs_weights(open_page, tmp_path):
    page = open_page()
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        page.select_option("#dtype", f"torch.{dtype}")
        page.fill("#seed", "7")
        settle(page)
        torch.manual_seed(7)
        expected = fastlstm.LSTM(1, 8, dtype=getattr(torch, dtype)).state_dict()
        found = fastlstm.load(save(page, tmp_path)).state_dict()
        for name in expected:
            assert torch.equal(found[name], expected[name]), (dtype, name)


def test_resets_and_lengths(open_page, tmp_path):
    page = open_page()
    given = {
        **random_settings(0, wrong=False),
        "cell": "LSTM",
        "proj_size": 0,
        "batch": 2,
        "length": 9,
        "unbatched": False,
    }
    given |= {"bidirectional": True, "num_layers": 2, "batch_first": True, "dtype": None}
    choose(page, given)
    assert page.locator("#changed-note").is_hidden()
    page.locator("#plot").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "r", "End", "ArrowLeft", "e"):
        page.keyboard.press(key)
    assert page.inner_text("#no-step").startswith("Row 0 ends after 7 steps")
    page.select_option("#row", "1")
    page.fill("#row-length", "5")
    page.locator("#step").focus()
    page.keyboard.press("Home")
    here = computed(page)
    assert here["lengths"] == [7, 5]
    assert [k for k, anew in enumerate(here["resets"]) if anew] == [2]
    assert "differs by up to" in page.inner_text("#changed-note")
    compare(page, fastlstm.numpy.LSTM.load(save(page, tmp_path)), given)
    page.click("#clear")
    assert page.locator("#changed-note").is_hidden()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_checkpoint(open_page, tmp_path, kind):
    page = open_page()
    torch.manual_seed(3)
    layer = getattr(fastlstm, kind)(2, 5, 2, batch_first=True, dropout=0.5, bidirectional=True)
    path = tmp_path / "own.safetensors"
    fastlstm.save(layer, path)
    drop(page, path)
    assert page.inner_text("#code") == f"{kind}(2, 5, num_layers=2, batch_first=True, dropout=0.5, bidirectional=True)"
    given = {"input_size": 2, "batch_first": True, "unbatched": False}
    compare(page, getattr(fastlstm.numpy, kind).load(path), given)
    page.fill("#hidden_size", "6")
    settle(page)
    assert "by seed again" in page.inner_text("#weights-note")


def test_a_models_checkpoint_with_a_prefix(open_page, tmp_path):
    from safetensors.torch import save_file

    page = open_page()
    model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 4), "head": torch.nn.Linear(4, 1)})
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    drop(page, path)
    assert "encoder." in page.inner_text("#weights-note")  # which prefixes have layers
    page.fill("#prefix", "encoder.")
    page.locator("#prefix").blur()
    settle(page)
    assert page.inner_text("#code") == "LSTM(3, 4)"
    compare(
        page, fastlstm.numpy.LSTM.load(path, "encoder."), {"input_size": 3, "batch_first": False, "unbatched": False}
    )


@pytest.mark.parametrize(
    "content", [b"", b"no safetensors at all", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", bytes(8) + b"1234"]
)
def test_a_malformed_file_is_a_line_and_no_more(open_page, tmp_path, content):
    page = open_page()
    before = computed(page)
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(content)
    drop(page, path)
    assert page.inner_text("#weights-note").startswith("wrong.safetensors: no ")
    page.fill("#hidden_size", "9")
    settle(page)
    assert page.inner_text("#code") == "LSTM(1, 9)"
    page.fill("#hidden_size", "8")
    settle(page)
    assert computed(page) == before


def test_the_keyboard_moves_along_time_and_changes_values(open_page):
    page = open_page()
    page.locator("#step").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#step", "aria-valuetext") == "step 6 of 12"
    assert page.inner_text("#said").startswith("Step 6, unit 0: i ")
    page.locator("#plot").focus()
    page.keyboard.press("Home")
    before = computed(page)["x"]
    page.keyboard.press("ArrowUp")
    assert computed(page)["x"] == [round(before[0] + 0.1, 2), *before[1:]]
    assert page.get_attribute("#plot", "aria-valuetext") == "step 1 of 12: 0.100"


def test_drawing_and_typing(open_page):
    page = open_page()
    box = page.locator("#plot").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 10, steps=30)
    page.mouse.up()
    settle(page)
    values = computed(page)["x"]
    assert len(set(values)) == 1
    assert values[0] > 2
    page.fill("#typed", "1, -0.5 2e-1")
    page.locator("#typed").blur()
    settle(page)
    assert computed(page)["x"] == [1, -0.5, 0.2]
    page.fill("#typed", "1 two")
    page.locator("#typed").blur()
    assert page.inner_text("#typed-error") == "expected numbers, got two"
    assert computed(page)["x"] == [1, -0.5, 0.2]


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_the_sums_of_the_equations_are_the_gates(open_page, cell):
    """What the engine's sums say beside its gates, in every direction and behind resets and ends."""
    page = open_page()
    given = {**random_settings(1, wrong=False), "cell": cell, "proj_size": 0, "bidirectional": True, "num_layers": 2}
    choose(page, given | {"length": 6, "batch": 2, "unbatched": False, "bias": True, "dtype": "float64"})
    page.locator("#plot").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "r", "End", "e"):
        page.keyboard.press(key)
    found = page.evaluate(
        """() => {
          const { call, result } = shownCall;
          const D = result.layers[0].length;
          const all = [];
          for (let chain = 0; chain < result.layers.length * D; ++chain)
            for (let n = 0; n < call.N; ++n)
              for (let t = 0; t < call.lengths[n]; ++t) {
                const steps = result.layers[Math.floor(chain / D)][chain % D];
                const H = steps.h.length / call.T / call.N;
                const at = (call.batchFirst ? n * call.T + t : t * call.N + n) * H;
                for (let unit = 0; unit < H; ++unit)
                  {
                  const values = Object.fromEntries(Object.entries(steps).map(([k, v]) => [k, v[at + unit]]));
                  all.push([engine.explain(chain, n, t, unit), values, unit]);
                }
              }
          return all;
        }"""
    )
    sigmoid = lambda sum: 1 / (1 + np.exp(-sum))  # noqa: E731
    assert len(found) > 100
    for of, value, unit in found:
        sums = [gate["input"] + gate["hidden"] + gate["b"] for gate in of["gates"]]
        if cell == "LSTM":
            i, f, g, o = sigmoid(sums[0]), sigmoid(sums[1]), np.tanh(sums[2]), sigmoid(sums[3])
            c = f * of["c"] + i * g
            expected = {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * np.tanh(c)}
        else:
            r, z, last = sigmoid(sums[0]), sigmoid(sums[1]), of["gates"][2]
            n = np.tanh(last["input"] + last["b_ih"] + r * (last["hidden"] + last["b_hh"]))
            expected = {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * of["h"][unit]}
        for letter, number in expected.items():
            assert value[letter] == pytest.approx(number, abs=INFERENCE["atol"]), letter


def test_what_is_too_large_is_said(open_page):
    page = open_page()
    page.fill("#hidden_size", "100000")
    settle(page)
    assert page.inner_text("#status").startswith("This page runs layers of up to")
    assert table(page, "parameters")[1] == ["weight_hh_l0", "(4*H_cell, H_out)", "(400000, 100000)", "40,000,000,000"]
    page.fill("#hidden_size", "8")
    page.fill("#length", "1000000000000")
    settle(page)
    assert page.inner_text("#status").startswith("This page runs layers of up to")
    assert table(page, "tensors")[0][2] == "(1000000000000, 1, 1)"
    page.fill("#length", "12")
    page.select_option("#device", "meta")
    settle(page)
    assert page.inner_text("#status") == "A layer on meta has shapes and no numbers."


def test_every_word_is_there_in_korean(open_page):
    page = open_page()
    english, korean = page.evaluate("[Object.keys(WORDS.en), Object.keys(WORDS.ko)]")
    assert set(english) <= set(korean)
    layers = [describe(2, 3, cell=cell) for cell in ("LSTM", "GRU")]
    of_the_package = {tensor.meaning for layer in layers for tensor in layer.tensors}
    assert of_the_package <= set(korean)


def test_sizes():
    """In bytes: the engine, and all the rest."""
    files = {path.name: path.stat().st_size for path in SITE.iterdir()}
    engine = files.pop("wasm.js")
    assert engine * 3 // 4 < 400_000
    assert sum(files.values()) < 150_000
