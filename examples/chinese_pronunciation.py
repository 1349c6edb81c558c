"""How is it read? g2pM's choice among a character's pronunciations, with its loop over NumPy cells as one call of a layer.

Run: python examples/chinese_pronunciation.py [sentence ...]    (without one, a few of its own)
"""

import sys
import time

import numpy as np
from numpy.typing import NDArray

from fastlstm.numpy import LSTM

try:
    from g2pM import G2pM
except ImportError:
    raise SystemExit("the weights and the dictionary are g2pM's: pip install --no-deps g2pM") from None

SENTENCES = (
    "然而，他红了20年以后，他竟退出了大家的视线。",
    "银行行长在人行道上走，他的头发长得很长。",
    "他还没还书，因为图书馆的门还没开。",
    "音乐使人快乐，数学使人数不清数。",
)
ROUNDS = 2000


class Reader(G2pM):
    """The package's own, but for its network: a layer of 32 units in both directions between an embedding and two matrices."""

    def load_variable(self, state: dict[str, NDArray[np.float32]]) -> None:
        super().load_variable(state)
        self.lstm = LSTM.from_state(state, prefix="lstm.", batch_first=True)

    def scores(self, characters: NDArray[np.int32], places: list[int]) -> NDArray[np.float32]:
        """(N, L), 0 past a row's end, and a place in each row, or any number in the only one -> (places, pronunciations)."""
        output, _ = self.lstm(self.embeddings[characters], lengths=(characters != 0).sum(1))
        return self.fc_layer(output[np.arange(len(characters)), places])

    def predict(self, inputs: NDArray[np.int32], target_idx: list[int]) -> NDArray[np.int64]:
        return self.scores(inputs, target_idx).argmax(1)


def main() -> None:
    sentences = sys.argv[1:] or SENTENCES
    theirs, ours = G2pM(), Reader()
    for sentence in sentences:
        print(" ".join(ours(sentence)), flush=True)
        assert ours(sentence) == theirs(sentence)
    for name, reader in (("the package alone", theirs), ("with fastlstm.numpy", ours)):
        seconds = []
        for k in range(ROUNDS):
            start = time.perf_counter()
            reader(sentences[k % len(sentences)])
            seconds.append(time.perf_counter() - start)
        median, high, highest = 1e6 * np.percentile(seconds, (50, 99, 99.9))
        print(f"{name}, us a sentence: median {median:,.0f}, 99% {high:,.0f}, 99.9% {highest:,.0f}", flush=True)


if __name__ == "__main__":
    main()
