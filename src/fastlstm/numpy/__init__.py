"""The NumPy face: trained layers without PyTorch. The same shapes, errors and bits as `fastlstm.LSTM` and its siblings.

from fastlstm.numpy import LSTM
lstm = LSTM.load("lstm.safetensors")
output, (h_n, c_n) = lstm(x)
stream = lstm.stream()
y = stream.step(frame)
"""

from fastlstm.numpy.layers import GRU, LSTM, GRUCell, LSTMCell, load
from fastlstm.numpy.onnx_files import from_onnx, onnx_layers
from fastlstm.numpy.stream import Stream
from fastlstm.numpy.threads import get_num_threads, set_num_threads

__all__ = [
    "GRU",
    "LSTM",
    "GRUCell",
    "LSTMCell",
    "Stream",
    "from_onnx",
    "get_num_threads",
    "load",
    "onnx_layers",
    "set_num_threads",
]
