"""`python live/build.py live.wasm site/live`: the page as a folder of plain files, which a browser opens from a disk, too."""

import base64
import json
import shutil
import sys
from pathlib import Path

from tables import tables

PAGE = Path(__file__).parent / "page"


def build(module: Path, site: Path) -> None:
    """A page that was opened as a file may load scripts, and nothing else: data and the engine are scripts."""
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(PAGE, site)
    (site / "tables.js").write_text(f"const TABLES = {json.dumps(tables(), separators=(',', ':'))};\n")
    (site / "wasm.js").write_text(f'const WASM = "{base64.b64encode(module.read_bytes()).decode()}";\n')
    page = sum(path.stat().st_size for path in site.iterdir() if path.name != "wasm.js")
    print(f"{site}: the engine {module.stat().st_size / 1000:.0f} KB, the page {page / 1000:.0f} KB")


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
