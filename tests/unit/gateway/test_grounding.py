"""Where records stand is looked for once; where that takes too long it is said, and looked for again the next time."""

import hashlib
from collections.abc import Sequence

from extractors.chunking import Chunk
from extractors.grounded import Grounded
from extractors.passages import Passage
from extractors.reading import Said
from extractors.workers import SlowError, Workers
from gateway.extraction.grounding import Grounder

TEXT = "Aspirin 81 mg daily."
CHUNK = Chunk(0, 100, 100 + len(TEXT), hashlib.sha256(TEXT.encode()).digest())
SAID = (Said(name="medication", text="Aspirin", attributes={}, group=0),)


class Hurried:
    """The real processes, which are given no time to look for what is only nearly there."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self._workers = Workers()

    async def aligned(self, passages: Sequence[Passage], *, exactly: bool = False) -> list[tuple[Grounded, ...]]:
        """Too late, unless `exactly`."""
        self.asked.append(exactly)
        if not exactly:
            raise SlowError
        return await self._workers.aligned(passages, exactly=True)


async def test_places_are_of_the_document_and_found_once() -> None:
    """The chunk begins at its hundredth code point; the second time nobody is asked."""
    grounder = Grounder(Workers())
    (first,), (again,) = [await grounder.ground(CHUNK, TEXT, [SAID]) for _ in range(2)]
    assert (first.is_whole, first.records[0].place) == (True, (100, 107))
    assert again == first


async def test_that_it_took_too_long_is_told_and_not_remembered() -> None:
    """What stands there letter for letter has its place all the same."""
    workers = Hurried()
    grounder = Grounder(workers)
    for _ in range(2):
        (placed,) = await grounder.ground(CHUNK, TEXT, [SAID])
        assert not placed.is_whole
        assert placed.records[0].place == (100, 107)
    assert workers.asked == [False, True] * 2
