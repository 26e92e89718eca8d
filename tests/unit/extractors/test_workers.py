"""LangExtract's work is done elsewhere: nobody waits for it on the loop, and one that hangs is ended."""

import asyncio
import os
import time

import pytest

from extractors import workers
from extractors.passages import Passage
from extractors.reading import Said
from extractors.recipe import shipped
from extractors.workers import WorkerError, Workers

TEXT = "Aspirin and aspirin, 高血压病史十年, cafe\u0301ine."


def said(*texts: str) -> tuple[Said, ...]:
    """Records of these words."""
    return tuple(Said("drug", text) for text in texts)


async def test_records_are_found_where_they_stand() -> None:
    """The second mention is the second record's; words that no space parts are found; made-up ones are not."""
    ((one, two, three, four, five),) = await Workers().aligned(
        [Passage(TEXT, 100, said("Aspirin", "aspirin", "高血压", "cafe\u0301ine", "nothing like it"))]
    )
    assert [record.place for record in (one, two, three, four)] == [(100, 107), (112, 119), (121, 124), (130, 138)]
    assert (five.place, five.alignment) == (None, None)


async def test_one_records_fault_costs_no_other() -> None:
    """LangExtract refuses all of a chunk for its own mark in one, and knows no words in some."""
    ((one, two, three),) = await Workers().aligned([Passage(TEXT, 0, said("Aspirin ␟", "aspirin", "\u200b"))])
    assert [one.place, two.place, three.place] == [None, (0, 7), None]


async def test_long_inventions_are_not_looked_for_at_length() -> None:
    """A model that makes up a page is answered soon, and short records beside it are found as ever."""
    began = time.monotonic()
    page = " ".join(f"made {number} up of Aspirin" for number in range(400))
    ((long, short),) = await Workers().aligned([Passage(TEXT * 20, 0, said(page, "Aspirin once and aspirin"))])
    assert long.place is None
    assert short.alignment in ("match_fuzzy", "match_lesser")
    assert time.monotonic() - began < 20


async def test_the_loop_goes_on_meanwhile() -> None:
    """Whoever is asked something else does not notice."""
    late, stop = [0.0], asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            began = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - began - 0.005)

    watching = asyncio.create_task(watch())
    passages = [Passage(TEXT * 40, 0, said(*["Aspirine or aspirin"] * 20))] * 10
    await asyncio.gather(*(Workers().aligned(passages) for _ in range(2)))
    stop.set()
    await watching
    assert sorted(late)[len(late) // 2] < 0.05


async def test_a_process_that_takes_too_long_is_ended_and_another_takes_its_place() -> None:
    """It is an error, and the next call is answered."""
    pool = Workers(1, deadline_s=5)
    with pytest.raises(WorkerError):
        await Workers(1, deadline_s=0.3)._run(time.sleep, 60)
    with pytest.raises(WorkerError):
        await pool._run(os._exit, 1)
    assert (await pool.aligned([Passage(TEXT, 0, said("Aspirin"))]))[0][0].place == (0, 7)


async def test_many_files_of_one_hold_up_no_other() -> None:
    """Each has one read at a time, and another's comes in between."""
    pool, page = Workers(), b"<p>word <b>x</b></p>" * 10_000
    theirs = [asyncio.create_task(pool.text(page, "text/html", "", "theirs")) for _ in range(4)]
    await asyncio.sleep(0)
    assert (await pool.text(b"<p>Aspirin</p>", "text/html", "", "mine")).text == "Aspirin"
    assert not all(one.done() for one in theirs)
    assert {one.text[:10] for one in await asyncio.gather(*theirs)} == {"word **x**"}


async def test_a_frame_is_made_once() -> None:
    """It is the recipe's, whatever that is called."""
    pool, recipe = Workers(1), shipped()["invoices"]
    frame = await pool.frame(recipe)
    assert frame is await pool.frame(recipe)
    assert recipe.description.strip() in frame.before
    assert (frame.before[-3:], frame.after) == ("Q: ", "\nA: ")


async def test_long_texts_are_divided_elsewhere() -> None:
    """In a thread, or in a process where LangExtract is needed; what comes of it is the same."""
    from extractors.chunking import chunks

    for text in ("One line.\n\n" * 5000, "word. " * 5000, "short"):
        assert await Workers().chunks(text, 200) == chunks(text, 200)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words that install it."""
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(workers.metadata, "version", missing)
    workers.version.cache_clear()
    with pytest.raises(workers.MissingError, match=r"askonce\[extraction\]"):
        workers.version()
    monkeypatch.undo()
    assert workers.version() == "1.7.1"
