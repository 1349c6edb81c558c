"""What a command needs before it begins: packages, and files that it can write."""

from importlib.util import find_spec
from pathlib import Path

import typer

from fastlstm.torch_versions import refuse_older

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


def needs_file(file: Path | None, option: str) -> None:
    """Refuse, before minutes of measuring, a file that can't be written."""
    if file is None:
        return
    try:
        if not file.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {str(file.parent)!r}", param_hint=option)
        if file.is_dir():
            raise typer.BadParameter(f"{str(file)!r} is a folder", param_hint=option)
        if file.is_file() or not file.exists():  # a FIFO would wait here for somebody to read it
            _try_to_open(file)
    except OSError as error:
        raise typer.BadParameter(f"{str(file)!r} can't be written: {error.strerror}", param_hint=option) from None


def _try_to_open(file: Path) -> None:
    new = not file.exists()
    with file.open("ab"):
        pass
    if new:
        file.unlink()


def needs_picture(file: Path | None, option: str) -> None:
    """Refuse, before minutes of measuring, a picture that can't be written, or is of a kind that nobody can draw."""
    if file is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = FigureCanvasAgg.get_supported_filetypes()
    if file.suffix and file.suffix[1:].lower() not in kinds:
        raise typer.BadParameter(f"{str(file)!r} is none of {', '.join(sorted(kinds))}", param_hint=option)
    needs_file(file, option)


def needs(*packages: str) -> None:
    """Exit with status 1 and the command that installs them, unless every one of `packages` is there, and torch not too old."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        extras = ",".join(dict.fromkeys(EXTRAS[package] for package in missing))
        typer.echo(
            f'This command needs {" and ".join(missing)}: pip install ".[{extras}]" in the folder of fastlstm', err=True
        )
        raise typer.Exit(1)
    if "torch" in packages:
        try:
            refuse_older()
        except ImportError as error:
            typer.echo(error, err=True)
            raise typer.Exit(1) from None
