"""Training batches: random tokens to copy, then the corpus, in equal lengths and endless supply."""

import random
import re
import threading
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Final

import torch
from tokenizers import Tokenizer

from gateway.models.training import corpus
from gateway.models.training.corpus import Example
from gateway.models.training.tokenizer import BOS, END_OF_TURN, PAD, SPECIAL

Batch = tuple[torch.Tensor, torch.Tensor]
Row = tuple[list[int], list[int]]  # tokens and targets
_IGNORED: Final = -1
_SHOWN: Final = re.compile(r'(?<=\nA: )\{"extractions".*\n')  # a worked example's answer and the line's end
_POOL: Final = 960
_WIDTHS: Final = (96, 192, 320, 448, 640, 1024)


def random_copies(rng: random.Random, vocabulary: int, size: int = 64) -> Batch:
    """Return rows of random tokens said twice; the second time is to be predicted."""
    length = rng.randint(6, 40)
    rows: list[Row] = []
    for _ in range(size):
        said = [rng.randrange(len(SPECIAL), vocabulary) for _ in range(length)]
        rows.append(([BOS, *said, END_OF_TURN, *said], [_IGNORED] * (length + 1) + [*said, END_OF_TURN]))
    return _padded(rows, size)


def encode(tokenizer: Tokenizer, examples: list[Example]) -> list[Row]:
    """Return each example's tokens and its targets: the tokens of answers, elsewhere ignored.

    Answers are the reply and, in an extraction's prompt, those of the worked examples: each follows
    from its own note, so one prompt teaches two to four extractions.
    """
    texts = [corpus.chat_text(e.messages) for e in examples]
    prompts = tokenizer.encode_batch(texts, add_special_tokens=False)
    answers = tokenizer.encode_batch([e.answer for e in examples], add_special_tokens=False)
    rows: list[Row] = []
    for text, prompt, answer in zip(texts, prompts, answers, strict=True):
        shown = [(found.start(), found.end()) for found in _SHOWN.finditer(text)]
        inside = [any(start <= at[0] < end for start, end in shown) for at in prompt.offsets]
        known = [token if taught else _IGNORED for token, taught in zip(prompt.ids, inside, strict=True)]
        rows.append((prompt.ids + answer.ids, [*known[1:], *answer.ids, END_OF_TURN]))
    return rows


def _width(length: int) -> int:
    """Return the smallest compiled width that holds so many tokens."""
    return next(width for width in _WIDTHS if width >= length)


def _padded(rows: list[Row], size: int) -> Batch:
    # Attention is causal and padding stands right, so no real token ever sees it. The batch is
    # filled up with empty rows: every shape is compiled on its own, so there must be few.
    width = _width(max(len(ids) for ids, _ in rows))
    ids = [ids + [PAD] * (width - len(ids)) for ids, _ in rows]
    targets = [wanted + [_IGNORED] * (width - len(wanted)) for _, wanted in rows]
    missing = size - len(rows)
    return torch.tensor(ids + [[PAD] * width] * missing), torch.tensor(targets + [[_IGNORED] * width] * missing)


def _mixture(rng: random.Random, long_share: float) -> Example:
    # A chat is a sixth of an extraction's length: these shares make every eighth batch one of chats.
    kind = rng.random()
    if kind < 0.6:
        return corpus.extraction_example(rng, long=rng.random() < long_share)
    return corpus.chat_example(rng) if kind < 0.9 else corpus.copy_example(rng)


def mixed(rng: random.Random, tokenizer: Tokenizer, budget: int, long_share: Callable[[], float]) -> Iterator[Batch]:
    """Yield batches of the mixture, each of nearly equal lengths and at most `budget` tokens."""
    while True:
        share = long_share()
        by_width: dict[int, list[Row]] = {}
        for row in encode(tokenizer, [_mixture(rng, share) for _ in range(_POOL)]):
            if len(row[0]) <= _WIDTHS[-1]:
                by_width.setdefault(_width(len(row[0])), []).append(row)
        ready: list[Batch] = []
        for width, rows in by_width.items():
            size = max(1, budget // width)
            ready += [_padded(rows[at : at + size], size) for at in range(0, len(rows), size)]
        rng.shuffle(ready)
        yield from ready


def copies(rng: random.Random, tokenizer: Tokenizer, size: int = 40) -> Iterator[Batch]:
    """Yield batches of requests to repeat coined names, numbers and codes."""
    while True:
        # Without earlier turns: to find the right text among several is left to the mixture.
        made = [corpus.copy_example(rng) for _ in range(2 * size)]
        rows = encode(tokenizer, [example for example in made if len(example.messages) < 3])
        yield _padded([row for row in rows if len(row[0]) <= _WIDTHS[0]][:size], size)


def ahead(source: Iterator[Batch], depth: int = 8) -> Iterator[Batch]:
    """Yield the same batches, made in a thread of their own while the network trains."""
    queue: Queue[Batch] = Queue(maxsize=depth)

    def fill() -> None:
        for batch in source:
            queue.put(batch)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield queue.get()
