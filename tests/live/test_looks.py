"""How the page looks: axe-core finds nothing serious, nothing is cut off; screenshots for people in build/live-screenshots."""

import pytest

from tests.live.conftest import ROOT
from tests.live.controls import settle

AXE = ROOT / "build" / "live-tools" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = ROOT / "build" / "live-screenshots"
SIZES = {1280: 900, 360: 740}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_it_is_accessible(open_page, width, scheme):
    page = open_page(
        "http", viewport={"width": width, "height": SIZES[width]}, color_scheme=scheme
    )  # axe reads its styles
    page.evaluate("document.querySelector('#settings').open = true")
    page.evaluate(AXE.read_text())
    for change in (
        "",
        "byId('proj_size').value = '9'",
        "byId('proj_size').value = '3'; byId('bidirectional').checked = true",
        "byId('proj_size').value = '0'; byId('cell-GRU').checked = true",
    ):
        page.evaluate(f"{change}; update()")
        settle(page)
        found = page.evaluate("axe.run()")["violations"]
        said = [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
        assert said == []


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("width", SIZES)
def test_nothing_is_cut_off(open_page, width, language):
    page = open_page(query=f"?lang={language}", viewport={"width": width, "height": SIZES[width]})
    assert page.get_attribute("html", "lang") == language
    for change in ("", "byId('input_size').value = '3'; byId('batch').value = '2'; byId('proj_size').value = '3'"):
        page.evaluate(f"{change}; update()")
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            """() => [...document.querySelectorAll("label, button, h1, h2, h3, .help, .letters, .figures, .scale span")]
              .filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline")
              .map((e) => e.outerHTML)"""
        )
        assert cut == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_screenshots(open_page, width, scheme):
    page = open_page(viewport={"width": width, "height": SIZES[width]}, color_scheme=scheme)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{width}-{scheme}.png")
    page.screenshot(path=SHOTS / f"{width}-{scheme}-full.png", full_page=True)
    assert (SHOTS / f"{width}-{scheme}.png").stat().st_size > 10_000
