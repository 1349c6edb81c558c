"""A figure can be read: what is written is within it, on nothing else that is written, and in its box where it has one."""

from itertools import combinations
from unittest.mock import patch

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SLACK = 1.0  # pixels, of about 11 that a letter is high


def drawn(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text as it is drawn, with its place in pixels."""
    found = []
    draw = Text.draw

    def noted(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), Text.get_window_extent(text, renderer)))
        draw(text, renderer)

    with patch.object(Text, "draw", noted):
        figure.canvas.draw()
    assert found, "nothing is written"
    return found


def assert_readable(figure: Figure, texts: list[tuple[str, Bbox]]) -> None:
    """No text is cut off, covers another, leaves its box, or is smaller than 8 points.

    texts: what is `drawn` of it.
    """
    page = figure.bbox
    for text, box in texts:
        assert page.x0 <= box.x0, f"{text!r} is cut off at the left"
        assert box.x1 <= page.x1, f"{text!r} is cut off at the right"
        assert page.y0 <= box.y0, f"{text!r} is cut off below"
        assert box.y1 <= page.y1, f"{text!r} is cut off above"
    for (one, a), (other, b) in combinations(texts, 2):
        assert not overlap(a, b), f"{one!r} and {other!r} overlap"
    frames = [patch.get_window_extent() for patch in figure.findobj(FancyBboxPatch)]
    for text, box in texts:
        for frame in frames:
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            assert inside or not overlap(frame, box), f"{text!r} crosses the edge of a box"
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(sizes) >= 8


def overlap(a: Bbox, b: Bbox) -> bool:
    """By more than SLACK, both ways."""
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > SLACK and high > SLACK
