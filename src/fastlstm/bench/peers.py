"""The engines that ours is measured against.

To add one: a module here with `contender(inputs, train)` (and `steps(inputs)`, if it streams), a line in PEERS, and its
packages in the extra `bench` of pyproject.toml and in `cli/needs.py`.
"""

from importlib import import_module
from typing import NamedTuple

from fastlstm.bench.contender import Prepare, Steps
from fastlstm.cells import LSTM, Cell


class Peer(NamedTuple):
    """label: its name in tables where it runs an LSTM. module: of this package, imported when it is measured. packages:
    what that imports beside torch. trains: whether it has gradients. streams: whether it is asked for single steps.
    """

    label: str
    module: str
    packages: tuple[str, ...]
    trains: bool
    streams: bool

    def label_for(self, cell: Cell) -> str:
        """Its name where it runs `cell`: nn.GRU is nn.LSTM's."""
        return self.label.replace(LSTM.name, cell.name)

    @property
    def prepare(self) -> Prepare:
        """What makes its call at a point."""
        prepare: Prepare = import_module(f"fastlstm.bench.{self.module}").contender
        return prepare

    @property
    def steps(self) -> Steps:
        """What makes its calls for steps of a stream."""
        steps: Steps = import_module(f"fastlstm.bench.{self.module}").steps
        return steps


PEERS = {
    "torch": Peer("nn.LSTM", "in_torch", (), trains=True, streams=True),
    "onnxruntime": Peer("ONNX Runtime", "in_onnxruntime", ("onnxruntime", "onnx"), trains=False, streams=True),
    "openvino": Peer("OpenVINO", "in_openvino", ("openvino", "onnx"), trains=False, streams=True),
    "jax": Peer("JAX", "in_jax", ("jax", "jaxlib"), trains=True, streams=False),
}
