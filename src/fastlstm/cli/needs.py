"""What a command needs before it begins: packages, and a folder to write to."""

from importlib.util import find_spec
from pathlib import Path

import typer

# package -> the extra of fastlstm that brings it
EXTRAS = {
    "torch": "torch",
    "matplotlib": "plot",
    "onnxruntime": "bench",
    "onnx": "bench",
    "openvino": "bench",
    "jax": "bench",
    "jaxlib": "bench",
}


def needs_folder_of(file: Path | None, option: str) -> None:
    """Refuse, before minutes of measuring, a file whose folder is not there."""
    if file is not None and not file.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {str(file.parent)!r}", param_hint=option)


def needs(*packages: str) -> None:
    """Exit with status 1, naming the command that installs them, unless every one of `packages` can be imported."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        extras = ",".join(dict.fromkeys(EXTRAS[package] for package in missing))
        typer.echo(
            f'This command needs {" and ".join(missing)}: pip install ".[{extras}]" in the folder of fastlstm', err=True
        )
        raise typer.Exit(1)
