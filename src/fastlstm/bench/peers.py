"""The engines that ours is measured against.

To add one: a module here with `contender(inputs, train)`, a line in PEERS, and its packages in the extra `bench` of
pyproject.toml and in `cli/needs.py`.
"""

from importlib import import_module
from typing import NamedTuple

from fastlstm.bench.contender import Prepare
from fastlstm.cells import LSTM, Cell


class Peer(NamedTuple):
    """label: its name in tables where it runs an LSTM. module: of this package, imported when it is measured. packages:
    what that imports beside torch. trains: whether it has gradients.
    """

    label: str
    module: str
    packages: tuple[str, ...]
    trains: bool

    def label_for(self, cell: Cell) -> str:
        """Its name where it runs `cell`: nn.GRU is nn.LSTM's."""
        return self.label.replace(LSTM.name, cell.name)

    @property
    def prepare(self) -> Prepare:
        """What makes its call at a point."""
        prepare: Prepare = import_module(f"fastlstm.bench.{self.module}").contender
        return prepare


PEERS = {
    "torch": Peer("nn.LSTM", "in_torch", (), trains=True),
    "onnxruntime": Peer("ONNX Runtime", "in_onnxruntime", ("onnxruntime", "onnx"), trains=False),
    "openvino": Peer("OpenVINO", "in_openvino", ("openvino", "onnx"), trains=False),
    "jax": Peer("JAX", "in_jax", ("jax", "jaxlib"), trains=True),
}
