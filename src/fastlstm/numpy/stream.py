"""`fastlstm.numpy.LSTM.stream`: NumPy's arrays in and out."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastlstm import streams


class Stream(streams.Stream):
    __doc__ = streams.Stream.__doc__

    if TYPE_CHECKING:

        def step(self, frame: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]: ...
        def block(self, frames: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]: ...

    def _chosen(self, rows: Any) -> list[int]:
        found: list[int] = np.atleast_1d(np.arange(self.batch)[rows]).tolist()
        return found

    def _empty(self, shape: tuple[int, ...]) -> Any:
        return np.empty(shape, self.dtype)

    def _in_order(self, array: Any) -> Any:
        return np.ascontiguousarray(array, self.dtype)
