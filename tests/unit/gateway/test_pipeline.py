"""Name it, look, ask, keep: what is asked again, what is kept, and what never is."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from gateway.backends.scripted import Line, Script, Scripted
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.errors import AnswerChanged, BackendError, UnknownModel
from gateway.explaining import Explainer
from gateway.flights.shared import Joined, SharedFlights, Start
from gateway.pipeline import Answer, Pipeline
from gateway.routing.router import Router
from gateway.steering import Steering
from storage.entry import Chunk, Entry, Query, Usage
from storage.flights.record import Wanted
from storage.near import Kept
from storage.tiers import Found, Looked

CALLER = Caller(tenant="s")
PLAIN = Steering()


class Shelf:
    """Tiers in a dict."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Entry] = {}

    epoch = 0

    def in_memory(self, key: bytes, max_age_s: float | None = None) -> Entry | None:
        """Nothing that was not there a moment ago."""
        del key, max_age_s
        return None

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """What is there, if it is young enough; the tests make none old."""
        assert max_age_s is None
        return Looked(Found(self.kept[key], "shelf") if key in self.kept else None)

    async def find(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """What is there."""
        return await self.get(key)

    def put(self, entry: Entry) -> bool:
        """Keep."""
        assert entry.query.key not in self.kept
        self.kept[entry.query.key] = entry
        return True

    def closed(self, query: Query) -> int:
        """Nothing was ever taken back."""
        del query
        return 0

    async def supersede(self, keys: Sequence[bytes], scope: str) -> int | None:
        """Make room."""
        for key in keys:
            self.kept.pop(key, None)
        return 1


def asking(text: str = "Hi", **params: Any) -> Request:
    """A chat request."""
    prompt = {"messages": [{"role": "user", "content": text}]}
    return Request(kind="chat", model="m", prompt=prompt, params=params, extra={})


async def heard(answer: Answer) -> list[Chunk]:
    """Everything an answer says."""
    async with aclosing(answer.chunks) as steps:
        return [step async for step in steps]


@pytest.fixture
def shelf() -> Shelf:
    """Nothing kept yet."""
    return Shelf()


async def test_a_miss_is_asked_and_kept_and_a_hit_is_the_same(shelf: Shelf) -> None:
    """Step by step; the second time nobody is asked."""
    backend = Scripted("m")
    pipeline = Pipeline(shelf, Router.of({"m": backend}), SharedFlights())
    first = await pipeline.answer(asking(), CALLER, PLAIN, "id-1")
    steps = await heard(first)
    second = await pipeline.answer(asking(), CALLER, PLAIN, "id-2")
    assert (first.status, second.status, second.tier) == ("miss", "hit", "shelf")
    assert second.origin_id == "id-1"
    assert await heard(second) == steps
    assert backend.calls == 1
    assert list(shelf.kept) == [first.key]
    times = [step.after_ms for step in steps]
    assert times == sorted(times)


@pytest.mark.parametrize("count", range(4))
async def test_what_is_not_heard_to_its_end_is_not_kept(shelf: Shelf, count: int) -> None:
    """Wherever the listener stops."""
    pipeline = Pipeline(
        shelf, Router.of({"m": Scripted("m", Script(line=(Line(reply="a b c d e"),)))}), SharedFlights()
    )
    streamed = msgspec.structs.replace(asking(), stream=True)
    answer = await pipeline.answer(streamed, CALLER, PLAIN, "id")
    async with aclosing(answer.chunks) as steps:
        for _ in range(count):
            await anext(steps)
    assert shelf.kept == {}


@pytest.mark.parametrize("said", [[], [Chunk(content="a")], [Chunk(index=1, finish_reason="stop")]])
async def test_an_answer_without_an_end_is_an_error(shelf: Shelf, said: list[Chunk]) -> None:
    """Each choice that was asked for must have ended."""

    class Cut(Scripted):
        async def complete(self, request: Request) -> Any:
            for step in said:
                yield step

    pipeline = Pipeline(shelf, Router.of({"m": Cut("m")}), SharedFlights())
    with pytest.raises(BackendError, match="before the answer did"):
        await heard(await pipeline.answer(asking(n=2 if said and said[0].index else 1), CALLER, PLAIN, "id"))
    assert shelf.kept == {}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([Chunk(content="a"), Chunk(finish_reason="error")], "gave up"),
        ([Chunk(content="a"), Chunk(finish_reason="abort")], "gave up"),
        ([Chunk(content="a", finish_reason="stop"), Chunk(content="late")], "went on"),
        ([Chunk(content="a", finish_reason="stop"), Chunk(finish_reason="length")], "went on"),
        ([Chunk(index=1, content="a", finish_reason="stop")], "not asked for"),
    ],
    ids=["error", "abort", "text after the end", "two ends", "another choice"],
)
async def test_an_answer_that_failed_is_an_error(shelf: Shelf, said: list[Chunk], words: str) -> None:
    """However well its stream ends, it is not kept."""

    class Failed(Scripted):
        async def complete(self, request: Request) -> Any:
            for step in said:
                yield step
            yield Chunk(usage=Usage(1, 1))

    pipeline = Pipeline(shelf, Router.of({"m": Failed("m")}), SharedFlights())
    with pytest.raises(BackendError, match=words):
        await heard(await pipeline.answer(asking(), CALLER, PLAIN, "id"))
    assert shelf.kept == {}


async def test_other_weights_are_asked_anew(shelf: Shelf) -> None:
    """And so is another tenant's question."""
    for version in ("1", "2"):
        pipeline = Pipeline(shelf, Router.of({"m": Scripted("m", Script(version=version))}), SharedFlights())
        for tenant in ("s", "t"):
            answer = await pipeline.answer(asking(), Caller(tenant=tenant), PLAIN, "id")
            assert answer.status == "miss"
            await heard(answer)
    assert len(shelf.kept) == 4


async def test_an_unknown_model_is_named_with_those_that_exist(shelf: Shelf) -> None:
    """So that a typing mistake is seen."""
    pipeline = Pipeline(shelf, Router.of({"b": Scripted("b"), "a": Scripted("a")}), SharedFlights())
    with pytest.raises(UnknownModel, match=r"'m' does not exist here; these do: a, b\."):
        await pipeline.answer(asking(), CALLER, PLAIN, "id")


class Nothing:
    """A record with nothing in it."""

    async def candidates(self, query: Query) -> list[Kept]:
        """None."""
        del query
        return []


async def test_explaining_asks_nobody_and_keeps_nothing(shelf: Shelf) -> None:
    """It says what would happen."""
    backend = Scripted("m")
    pipeline = Pipeline(shelf, Router.of({"m": backend}), SharedFlights())
    explainer = Explainer(shelf, Router.of({"m": backend}), Nothing())
    assert (await explainer.explain(asking(), CALLER, PLAIN))["tier"] == "backend"
    answer = await pipeline.answer(asking(), CALLER, PLAIN, "id")
    await heard(answer)
    explained = await explainer.explain(asking(), CALLER, PLAIN)
    assert (explained["tier"], explained["key"]) == ("shelf", answer.key.hex())
    assert backend.calls == 1


class Changing(SharedFlights):
    """Flights whose first leader dies, and whose second try says something else."""

    def __init__(self) -> None:
        super().__init__()
        self.joins = 0

    async def join(self, wanted: Wanted, start: Start, kept: Callable[[], bool] = lambda: True) -> Joined:
        """As ever, but the first of all."""
        self.joins += 1
        joined = await super().join(wanted, start, kept)
        return msgspec.structs.replace(joined, steps=_changed(joined.steps)) if self.joins == 1 else joined


async def _changed(steps: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    async with aclosing(steps):
        yield await anext(steps)
        raise AnswerChanged


async def test_who_was_told_nothing_is_told_what_a_second_try_says() -> None:
    """Whole answers do not fail because others had heard the beginning of another."""
    backend = Scripted("m", Script(line=(Line(reply="Hello there."),)))
    flights = Changing()
    pipeline = Pipeline(Shelf(), Router.of({"m": backend}), flights)
    _, steps = await pipeline.whole(Request("chat", "m", {"messages": []}, {}, {}), CALLER, PLAIN, "id")
    assert "".join(step.content for step in steps) == "Hello there."
    assert flights.joins == 2
