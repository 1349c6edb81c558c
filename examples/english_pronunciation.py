"""How is an unknown word pronounced? g2p_en's two GRUs: one reads the letters, the other, a stream, speaks sound by sound.

Run: python examples/english_pronunciation.py [word ...]    (without one, a few that no dictionary has)
"""

import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fastlstm.numpy import GRU

WORDS = ("activationist", "blorptastic", "zuckernaut", "quibbleware", "streamlessness", "mumblecorish", "gruffalope")
ROUNDS = 300
MOST = 20  # sounds in a word

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W"),
    *("Y", "Z", "ZH"),
)
STRESSED = (vowel + stress for vowel in VOWELS for stress in "012")  # 1: the main stress, 2: a lesser one
SOUNDS = ["<pad>", "<unk>", "<s>", "</s>", *sorted([*CONSONANTS, "UW", *STRESSED])]


class Speaker:
    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.weights = dict(file)
        self.reader, speaker = self.gru("enc"), self.gru("dec")
        self.stream = speaker.stream()

    def gru(self, side: str) -> GRU:
        """Their names are enc_w_ih, enc_b_ih, ..."""
        names = {"weight_ih_l0": "w_ih", "weight_hh_l0": "w_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}
        return GRU.from_state({name: self.weights[f"{side}_{theirs}"] for name, theirs in names.items()})

    def speak(self, word: str) -> Iterator[str]:
        """Sound by sound, such as K AE1 T: each is the likeliest after those before it."""
        letters = [LETTERS.index(letter) if letter in LETTERS else LETTERS.index("<unk>") for letter in word]
        _, h = self.reader(self.weights["enc_emb"][[*letters, LETTERS.index("</s>")]])  # (1, H)
        self.stream.state = h[:, None]
        sound = SOUNDS.index("<s>")
        for _ in range(MOST):
            h = self.stream.step(self.weights["dec_emb"][sound])
            sound = int(np.argmax(self.weights["fc_w"] @ h + self.weights["fc_b"]))
            if SOUNDS[sound] == "</s>":
                break
            yield SOUNDS[sound]


def main() -> None:
    package = find_spec("g2p_en")  # found, not imported: it wants nltk and its data
    if package is None or package.origin is None:
        raise SystemExit("the weights are g2p_en's: pip install --no-deps g2p-en")
    speaker = Speaker(Path(package.origin).with_name("checkpoint20.npz"))
    words = [word.lower() for word in sys.argv[1:]] or WORDS
    for word in words:
        print(f"{word}: {' '.join(speaker.speak(word))}", flush=True)
    first: list[float] = []
    later: list[float] = []
    for k in range(ROUNDS * len(words)):
        seconds, start = first, time.perf_counter()
        for _ in speaker.speak(words[k % len(words)]):
            seconds.append(time.perf_counter() - start)
            seconds, start = later, time.perf_counter()
    for what, seconds in (("the word read and its first sound", first), ("each later sound", later)):
        median, high, highest = 1e6 * np.percentile(seconds, (50, 99, 99.9))
        print(f"{what}, us: median {median:.0f}, 99% {high:.0f}, 99.9% {highest:.0f}")


if __name__ == "__main__":
    main()
