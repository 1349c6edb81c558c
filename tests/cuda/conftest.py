"""What needs a GPU. Not a part of `make test`: `make test-cuda` runs it where there is one. It has not run on hardware yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"torch {torch.__version__} sees no GPU"))


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On new GPUs cuDNN rounds what it multiplies to TF32's 11 bits, unless told otherwise: no test of float32 would hold."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.set_default_device(None)
