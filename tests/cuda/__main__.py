"""`make test-cuda`: pytest, or one line where there is no GPU."""

import sys
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    print(f"tests/cuda: nothing ran, torch {torch.__version__} sees no GPU")
    sys.exit(0)
print(f"tests/cuda: {torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
sys.exit(pytest.main([str(Path(__file__).parent), *sys.argv[1:]]))
