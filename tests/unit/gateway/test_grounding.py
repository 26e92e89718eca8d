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
SAID = (Said("medication", "Aspirin"),)
NEARLY = (*SAID, Said("medication", "Aspirine 81 milligrams"))


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
    """What stands there letter for letter has its place all the same; where that is all, nothing was missed."""
    workers = Hurried()
    grounder = Grounder(workers)
    for said in (NEARLY, NEARLY, SAID):
        (placed,) = await grounder.ground(CHUNK, TEXT, [said])
        assert placed.is_whole == (said is SAID)
        assert [record.place for record in placed.records] == [(100, 107), None][: len(said)]
    assert workers.asked == [False, True] * 3
