"""The dtypes of the engine's arrays."""

import torch

REAL = frozenset({torch.float32, torch.float64})
HALF = frozenset({torch.float16, torch.bfloat16})  # added up in float32
NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in REAL | HALF}
