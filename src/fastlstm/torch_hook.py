"""torch gets this package's operators when it is imported: so `import fastlstm` is enough to load whatever was exported or traced
with a layer of it, and imports no torch where the process has none.

torch would call an entry point of ours itself; but where that fails, so does `import torch`.
"""

import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from fastlstm.torch_versions import refuse_older

_TORCH = "torch"


def watch() -> None:
    """Registers the operators now where torch is there, else as the last thing of torch's import. Again: nothing changes."""
    torch = sys.modules.get(_TORCH)
    if torch is None:
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        return
    spec = getattr(torch, "__spec__", None)
    if getattr(spec, "_initializing", False):  # something that torch imports has imported this package
        spec.__class__ = _Watched
    else:
        _register()


def _register() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    try:
        refuse_older()
        import_module("fastlstm.torch")
    except Exception as error:  # torch itself is whole: its import must not fail for ours
        warnings.warn(f"fastlstm has not registered its operators: {error!r}", RuntimeWarning, stacklevel=2)


class _Finder:
    """Asks the other finders for torch, and lets the loader that they name do one thing more."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _TORCH:
            return None
        for finder in list(sys.meta_path):
            if isinstance(finder, _Finder):
                continue
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                _follow(spec.loader)
                return spec
        return None


def _follow(loader: Any) -> None:
    """The loader stays the object it is: code asks it for its type, its sources, its resources. Where it is of a kind that
    takes no attributes, the operators wait for the first use of this package.
    """
    with suppress(AttributeError):
        loader.exec_module = _Execution(loader)


class _Execution:
    """`loader.exec_module`, and what comes after; once. A class, so that a loader found but never used can be pickled."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __call__(self, module: ModuleType) -> None:
        vars(self.loader).pop("exec_module", None)
        self.loader.exec_module(module)
        _register()


class _Watched(ModuleSpec):
    """The spec of a module that is being imported: that this has ended is told it by an attribute."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_initializing" and not value:
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            if sys.modules.get(_TORCH) is not None:
                _register()
        object.__setattr__(self, name, value)  # it may be of that class no longer
