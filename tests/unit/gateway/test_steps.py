"""Steps that came together stay together, and can be had one by one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from gateway.begun import Begun
from gateway.errors import BackendError
from gateway.steps import Batches, Steps, heard, together
from storage.entry import Chunk, Usage

A, B, C = (Chunk(content=letter) for letter in "abc")


class Source:
    """Batches, then perhaps a fault; says whether it was left."""

    def __init__(self, *batches: Sequence[Chunk], fault: Exception | None = None) -> None:
        self.left = False
        self._batches = batches
        self._fault = fault

    async def batches(self) -> Batches:
        """All of it."""
        try:
            for some in self._batches:
                yield some
            if self._fault:
                raise self._fault
        finally:
            self.left = True


async def singly(*steps: Chunk) -> AsyncGenerator[Chunk]:
    """A generator that knows nothing of batches."""
    for step in steps:
        yield step


async def test_one_by_one() -> None:
    """In their order, whatever they came with."""
    assert [step async for step in Steps(Source([A, B], [C]).batches())] == [A, B, C]


async def test_together_as_they_came() -> None:
    """Nothing is split, joined or lost, also not what was taken in part."""
    assert [some async for some in together(Steps(Source([A, B], [C]).batches()))] == [[A, B], [C]]
    begun = Steps(Source([A, B], [C]).batches())
    assert await anext(begun) == A
    assert [list(some) async for some in together(begun)] == [[B], [C]]
    assert [list(some) async for some in together(singly(A, B))] == [[A], [B]]


@pytest.mark.parametrize("taken", [1, 2])
async def test_leaving_leaves_the_source(taken: int) -> None:
    """In the middle of a batch or at its end; there is nothing more then."""
    source = Source([A, B], [C])
    steps = Steps(source.batches())
    for _ in range(taken):
        await anext(steps)
    await steps.aclose()
    assert source.left
    assert [step async for step in steps] == []


async def test_leaving_the_rest_leaves_the_source() -> None:
    """Also where some of it was taken one by one."""
    source = Source([A, B], [C])
    steps = Steps(source.batches())
    await anext(steps)
    async with aclosing(together(steps)) as batches:
        assert list(await anext(batches)) == [B]
    assert source.left


async def test_what_comes_before_a_fault_is_heard() -> None:
    """A step at which somebody objects does not take those before it along."""

    def hear(step: Chunk) -> Chunk | None:
        if step is C:
            raise BackendError("no")
        return None if step is A else step

    batches = heard(Source([A, B, C], [A]).batches(), hear)
    assert await anext(batches) == [B]
    with pytest.raises(BackendError, match="no"):
        await anext(batches)


@pytest.mark.parametrize("at_once", [True, False])
async def test_who_hears_the_end_hears_what_it_cost(at_once: bool) -> None:
    """However the steps are taken."""
    said: list[Usage] = []
    begun = await Begun.of(Steps(Source([A], [B, Chunk(usage=Usage(1, 2))]).batches()), whole=False)
    assert begun.first == A
    begun.on_usage = said.append
    taken = [step async for some in together(begun) for step in some] if at_once else [step async for step in begun]
    assert [step.content for step in taken] == ["a", "b", ""]
    assert said == [Usage(1, 2)]
