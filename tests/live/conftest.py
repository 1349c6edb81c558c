"""The built page in Chromium, as a file and over http. An error of its console, or a request to another host, fails a test."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site" / "live"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def addresses() -> Iterator[dict[str, str]]:
    handler = functools.partial(Quiet, directory=str(SITE.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "file": (SITE / "index.html").as_uri(),
            "http": f"http://127.0.0.1:{server.server_address[1]}/live/index.html",
        }
        server.shutdown()


@pytest.fixture
def open_page(browser: Browser, addresses: dict[str, str]) -> Iterator[Any]:
    """open_page(how="file", query="", **options of a browser's page): the page, once its engine runs."""
    pages: list[Page] = []
    wrong: list[str] = []

    def opened(how: str = "file", query: str = "", **options: Any) -> Page:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        pages.append(page)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        own = ("data:", "blob:", addresses[how].rsplit("/", 1)[0])
        page.on("request", lambda request: None if request.url.startswith(own) else wrong.append(request.url))
        page.goto(addresses[how] + query)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for page in pages:
        page.close()
    assert wrong == []
