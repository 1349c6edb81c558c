"""The `fastlstm` script, and `python -m fastlstm`: the command line, or what to install where its packages are missing."""

import sys
from importlib.util import find_spec


def main() -> None:
    """The entry point of the `fastlstm` script."""
    missing = [package for package in ("rich", "typer") if find_spec(package) is None]
    if missing:
        sys.exit(f'The command line needs {" and ".join(missing)}: pip install ".[cli]" in the folder of fastlstm')
    from fastlstm.cli import app

    app()


if __name__ == "__main__":
    main()
