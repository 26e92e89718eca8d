"""What a BERT of sentence-transformers makes of a text, computed with NumPy alone: llama.cpp is compared with it.

Written from the description of WordPiece and of BERT; it shares no code with what makes the GGUF.
"""

import math
import unicodedata
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

Array = NDArray[np.float64]
HEADS = 12
LAYERS = 6
EPSILON = 1e-12
LONGEST_WORD = 100
_ERF = np.frompyfunc(math.erf, 1, 1)


class Reference:
    """One model folder. `vector` gives 384 numbers of length one, in 64-bit floats."""

    def __init__(self, folder: Path) -> None:
        words = (folder / "vocab.txt").read_text("utf-8").splitlines()
        self._ids = {word: number for number, word in enumerate(words)}
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        self._weights = {name: values.astype(np.float64) for name, values in weights.items()}

    def tokens(self, text: str) -> list[str]:
        """The pieces of a text, with the marks around it."""
        return ["[CLS]", *(piece for word in words(text) for piece in self._pieces(word)), "[SEP]"]

    def vector(self, text: str) -> Array:
        """The mean over all tokens of the last layer, brought to length one."""
        ids = [self._ids[piece] for piece in self.tokens(text)]
        w = self._weights
        state = w["embeddings.word_embeddings.weight"][ids]
        state = state + w["embeddings.position_embeddings.weight"][: len(ids)]
        state = state + w["embeddings.token_type_embeddings.weight"][0]
        state = self._normed(state, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            state = self._layer(state, f"encoder.layer.{layer}.")
        mean = state.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _pieces(self, word: str) -> list[str]:
        """The longest known beginning, then the longest known going-on; a word that cannot be made so is unknown."""
        found: list[str] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            end = next((end for end in range(len(word), start, -1) if mark + word[start:end] in self._ids), 0)
            if not end or len(word) > LONGEST_WORD:
                return ["[UNK]"]
            found.append(mark + word[start:end])
            start = end
        return found

    def _layer(self, state: Array, name: str) -> Array:
        attended = self._linear(self._attended(state, f"{name}attention.self."), f"{name}attention.output.dense")
        state = self._normed(state + attended, f"{name}attention.output.LayerNorm")
        inner = self._linear(state, f"{name}intermediate.dense")
        inner = inner * 0.5 * (1 + _ERF(inner / math.sqrt(2)).astype(np.float64))
        return self._normed(state + self._linear(inner, f"{name}output.dense"), f"{name}output.LayerNorm")

    def _attended(self, state: Array, name: str) -> Array:
        length, width = state.shape
        query, key, value = (
            self._linear(state, name + part).reshape(length, HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(width / HEADS)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = shares / shares.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(1, 0, 2).reshape(length, width)

    def _linear(self, state: Array, name: str) -> Array:
        return state @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normed(self, state: Array, name: str) -> Array:
        centred = state - state.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(state.var(axis=-1, keepdims=True) + EPSILON)
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def words(text: str) -> list[str]:
    """BERT's words: lower case without accents, parted at spaces, punctuation and between Chinese characters."""
    parted: list[str] = []
    for character in text:
        category = unicodedata.category(character)
        if character in "\t\n\r" or category == "Zs":
            parted.append(" ")
        elif character in "\0\ufffd" or category.startswith("C"):
            continue
        else:
            parted.append(f" {character} " if is_chinese(character) else character)
    plain = unicodedata.normalize("NFD", "".join(parted).lower())
    bare = (character for character in plain if unicodedata.category(character) != "Mn")
    return "".join(f" {character} " if is_punctuation(character) else character for character in bare).split()


def is_punctuation(character: str) -> bool:
    """What Unicode calls so, and all of ASCII's signs."""
    ascii_sign = "!" <= character <= "~" and not character.isalnum()
    return ascii_sign or unicodedata.category(character).startswith("P")


def is_chinese(character: str) -> bool:
    """The blocks of Chinese characters that BERT parts."""
    point = ord(character)
    blocks = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0xF900, 0xFAFF))
    return any(first <= point <= last for first, last in blocks)
