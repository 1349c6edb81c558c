"""What is said, and in strict mode refused, where plain tensor operations run in a faster engine's place."""

import warnings

import torch


class FallbackWarning(UserWarning):
    """A call runs in plain tensor operations, where a faster engine is what one would expect."""


_strict = False
_announced: set[str] = set()


def strict(on: bool = True) -> None:
    """From now on, in this process, a call that would run in plain tensor operations raises RuntimeError instead."""
    global _strict
    _strict = on


def fall_back(why: str) -> None:
    """Announces, once for each reason, that plain tensor operations run; raises RuntimeError in strict mode."""
    if _strict:
        raise RuntimeError(f"fastlstm.strict: this call would run in plain tensor operations: {why}")
    if why not in _announced and not torch.compiler.is_compiling():  # which cannot trace a warning
        _announced.add(why)
        warnings.warn(f"fastlstm runs in plain tensor operations, slowly: {why}", FallbackWarning, stacklevel=2)
