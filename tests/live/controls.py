"""The page's controls as a reader moves them, and what the page has computed."""

from typing import Any

import numpy as np
from playwright.sync_api import Page

TEXTS = ("input_size", "hidden_size", "num_layers", "proj_size", "dropout", "length", "batch")
FLAGS = ("bias", "batch_first", "bidirectional", "unbatched")


def choose(page: Page, given: dict[str, Any]) -> None:
    page.locator(f"label[for=cell-{given['cell']}]").click()
    for name in TEXTS:
        if page.locator(f"#{name}").is_enabled():
            page.fill(f"#{name}", str(given[name]))
    for name in FLAGS:
        page.set_checked(f"#{name}", given[name])
    page.select_option("#device", given["device"] or "")
    page.select_option("#dtype", f"torch.{given['dtype']}" if given["dtype"] else "")
    settle(page)


def settle(page: Page) -> None:
    """The page follows its controls once a frame."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def computed(page: Page) -> dict[str, Any]:
    """x, resets, lengths, output, h_n, c_n and `layers[layer][direction][letter]` of the call on the page, flat."""
    return page.evaluate(
        """() => {
          const { call, result } = shownCall;
          const steps = result.layers.map((layer) => layer.map((side) =>
            Object.fromEntries(Object.entries(side).map(([letter, all]) => [letter, [...all]]))));
          const { output, h_n, c_n } = result;
          return { x: [...call.x], resets: [...call.resets], lengths: call.lengths, T: call.T, N: call.N,
            output: [...output], h_n: [...h_n], c_n: c_n && [...c_n], layers: steps };
        }"""
    )


def table(page: Page, id: str) -> list[list[str]]:
    """The cells of a table's body."""
    rows = page.locator(f"#{id} tbody tr").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


def flat(array: Any) -> np.ndarray[Any, Any]:
    return np.asarray(array, np.float64).reshape(-1)
