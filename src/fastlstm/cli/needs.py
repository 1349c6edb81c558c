"""Say what to install where a command needs a package that is not there."""

from importlib.util import find_spec

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


def needs(*packages: str) -> None:
    """Exit with status 1, naming the command that installs them, unless every one of `packages` can be imported."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        extras = ",".join(dict.fromkeys(EXTRAS[package] for package in missing))
        typer.echo(f'This command needs {" and ".join(missing)}: pip install "fastlstm[{extras}]"', err=True)
        raise typer.Exit(1)
