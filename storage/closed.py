"""One scope's invalidations: a map from a place to the number that closed it, of a bounded size."""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final, Literal, Protocol

Kind = Literal["key", "model", "tag", "prompt", "all"]
MOST: Final = 2**16
"""Of places that are known one by one: 121 bytes for a key, 170 for a tag of 64 letters, measured with `tracemalloc` on
CPython 3.11; so at most 11 MiB of a process for a scope."""
_BEGINNING: Final = 15
"""Bytes of a sha256 that are enough: should two ever begin alike, both are closed."""


class Named(Protocol):
    """What invalidations know an answer by, beside its tags."""

    @property
    def scope(self) -> str:
        """Where it is kept."""
        ...

    @property
    def model(self) -> str:
        """Whose it is."""
        ...

    @property
    def key(self) -> bytes:
        """Of its question."""
        ...

    @property
    def prompt_hash(self) -> bytes:
        """Of what the model read."""
        ...


class Closed:
    """What of a scope does not count. Beyond `MOST` places the older half becomes one number for all of the scope:
    then too much is closed, never too little.
    """

    def __init__(self) -> None:
        self.tags = 0
        """The last number that speaks of any tag."""
        self._all = 0
        self._places: dict[bytes, int] = {}
        """In the order of their numbers."""

    def __len__(self) -> int:
        """How many numbers there are."""
        return len(self._places) + bool(self._all)

    def close(self, kind: Kind, value: str, number: int) -> None:
        """Take note of an invalidation."""
        if kind == "all":
            self._close_all(number)
            return
        place = _place(kind, value)
        self._places[place] = max(number, self._places.pop(place, 0))
        if kind == "tag":
            self.tags = max(self.tags, number)
        if len(self._places) > MOST:
            self._close_all(next(islice(self._places.values(), MOST // 2, None)))

    def last(self, answer: Named, tags: Collection[str]) -> int:
        """The last number that speaks of `answer`, if it has these tags."""
        found = (self._places.get(place, 0) for place in _places(answer, tags))
        return max(self._all, *found)

    def prune(self, first: int) -> None:
        """Forget numbers before `first`."""
        self._all = self._all if self._all >= first else 0
        self._places = {place: number for place, number in self._places.items() if number >= first}

    def _close_all(self, number: int) -> None:
        self._all = max(self._all, number)
        self._places = {place: other for place, other in self._places.items() if other > self._all}


def _place(kind: Kind, value: str) -> bytes:
    if kind in ("key", "prompt"):
        return kind[0].encode() + bytes.fromhex(value)[:_BEGINNING]
    return kind[0].encode() + value.encode()


def _places(answer: Named, tags: Collection[str]) -> Iterator[bytes]:
    yield b"k" + answer.key[:_BEGINNING]
    yield b"p" + answer.prompt_hash[:_BEGINNING]
    yield b"m" + answer.model.encode()
    for tag in tags:
        yield b"t" + tag.encode()
