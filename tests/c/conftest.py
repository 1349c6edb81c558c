"""What is built and installed by plain CMake, at FASTLSTM_PREFIX. Not a part of `make test`: `make test-c` builds it."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prefix() -> Path:
    return Path(os.environ["FASTLSTM_PREFIX"]).resolve()
