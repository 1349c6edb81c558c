"""`python docs/check.py site`: every link of the built site resolves, no other host is asked, a first visit is small; every page
says which language it is in and leads to the other, and the search knows the words of Korean pages."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGEST_FIRST_VISIT = 500_000  # bytes of a page, its styles and its scripts


class Page(HTMLParser):
    """links: where a reader may go. elsewhere: those to another language, by code. loaded: what the browser fetches to show it.
    korean: the Korean words in its paragraphs, and their beginnings: particles are written to a noun's end."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.language = ""
        self.elsewhere: dict[str, str] = {}
        self.korean: set[str] = set()
        self.in_paragraph = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        self.in_paragraph |= tag == "p" and given.get("class") != "caption"
        if tag == "html":
            self.language = given.get("lang", "")
        elif "hreflang" in given:
            self.elsewhere[given["hreflang"]] = given["href"]
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "shortcut icon"):
            self.loaded.add(given["href"])
        elif "src" in given:
            self.loaded.add(given["src"])

    def handle_endtag(self, tag: str) -> None:
        self.in_paragraph &= tag != "p"

    def handle_data(self, data: str) -> None:
        if self.in_paragraph:
            words = re.findall("[가-힣]{2,}", data)
            self.korean.update(words, (word[:2] for word in words))

    def at(self, address: str) -> Path:
        """The file that an address names."""
        return (self.path.parent / unquote(urlsplit(address).path)).resolve() if address[:1] != "#" else self.path


def check(site: Path) -> list[str]:
    """What is wrong."""
    pages = {path: Page(path) for path in sorted(site.resolve().rglob("*.html"))}
    wrong, links = [], 0
    for page in pages.values():
        for address in page.links | page.loaded:
            if urlsplit(address).scheme or address.startswith("//"):
                if address in page.loaded and not address.startswith("data:"):
                    wrong.append(f"{page.path}: loads {address}")
                continue
            links += 1
            target, anchor = page.at(address), unquote(urlsplit(address).fragment)
            if not target.is_file():
                wrong.append(f"{page.path}: {address} leads nowhere")
            elif anchor and target in pages and anchor not in pages[target].ids:
                wrong.append(f"{page.path}: {address} has no such anchor")
    for sheet in site.rglob("*.css"):
        remote = re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]+", sheet.read_text())
        wrong += [f"{sheet}: loads {address}" for address in remote]
    wrong += languages(site.resolve(), pages)
    visits = {page.path: visit(page) for page in pages.values()}
    largest = max(visits, key=visits.__getitem__)
    if visits[largest] > LARGEST_FIRST_VISIT:
        wrong.append(f"{largest}: a first visit loads {visits[largest]:,} bytes")
    first = visits[site.resolve() / "docs" / "index.html"]
    print(
        f"{len(pages)} pages, {links:,} links; a first visit: {first / 1000:.0f} KB, "
        f"of {largest.name}, the largest, {visits[largest] / 1000:.0f} KB"
    )
    return wrong


def languages(site: Path, pages: dict[Path, Page]) -> list[str]:
    """What is wrong between the two languages."""
    wrong = []
    for path, page in pages.items():
        if page.language != ("ko" if site / "docs" / "ko" in path.parents else "en"):
            wrong.append(f"{path}: in {page.language!r}?")
        other = "en" if page.language == "ko" else "ko"
        counterpart = pages.get(page.at(page.elsewhere.get(other, "")))
        if path in (site / "index.html", site / "live" / "index.html"):
            continue  # the one leads on by itself, the other has both languages in it
        if not counterpart or counterpart.language != other:
            wrong.append(f"{path}: no link to a page in {other!r}")
        elif page.language == "ko" and counterpart.at(counterpart.elsewhere.get("ko", "")) != path:
            wrong.append(f"{path}: its counterpart leads elsewhere")
    index = json.loads((site / "searchindex.js").read_text().removeprefix("Search.setIndex(").removesuffix(")"))
    for number, name in enumerate(index["docnames"]):
        page = pages[site / f"{name}.html"]
        terms = [*index["terms"].items(), *index["titleterms"].items()]
        found = {word for word, at in terms if at == number or (isinstance(at, list) and number in at)}
        if page.language == "ko" and page.korean - found:
            wrong.append(f"{page.path}: a search does not find {sorted(page.korean - found)[:5]}")
    return wrong


def visit(page: Page) -> int:
    """Bytes of the page, its styles and its scripts, not compressed; pictures and the live page's engine apart."""
    files = {page.path, *(page.at(address) for address in page.loaded if address != "wasm.js")}
    return sum(file.stat().st_size for file in files if file.suffix in (".html", ".css", ".js") and file.is_file())


if __name__ == "__main__":
    found = check(Path(sys.argv[1]))
    sys.exit("\n".join(found) or 0)
