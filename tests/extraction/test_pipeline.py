"""Extraction, from the text to the records, with a model that knows the answers: what is not there was lost on the way.

The oracle is a server of its own, asked over each of the three protocols. Without faults everything comes out, whole
and at its place. With faults comes out what `expected` says, no more and no less.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from extractors.grounded import Grounded
from extractors.scoring import Scores, scores
from extractors.splitting import Span
from tests.acceptance.in_thread import Gateway
from tests.extraction.expected import Expected, expected, found
from tests.extraction.faults import FAULTS, Plan
from tests.extraction.gold import Note, notes
from tests.extraction.oracle import KINDS, RECIPE, Oracle

Make = Callable[..., Gateway]

NOTES = notes(40, least=1000)
CHUNK_CHARS = 200
AT_ONCE, PARALLEL = 4, 2
"""Notes, and chunks of each: as many at a time as every kind of backend takes without a word."""
SILENCE_S = 1.0
"""How long a backend may say nothing."""
HELD = {"vllm": {"response_format"}, "llamacpp": {"response_format", "grammar"}, "ollama": {"format"}}
"""Fields that hold a model to a form."""


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    """One that serves."""
    with Oracle(NOTES).serving() as served:
        yield served


@pytest.fixture
def asked(gateway: Make, oracle: Oracle) -> "Asked":
    """A gateway before the oracle, which has a name for each protocol."""
    oracle.forget()
    backends = [oracle.backend(kind, alias=kind, first_token_timeout_s=SILENCE_S) for kind in KINDS]
    return Asked(gateway(backends=backends))


class Asked:
    """A gateway that is asked to extract."""

    def __init__(self, gateway: Gateway) -> None:
        self._url = f"{gateway.url}/v1/extractions"

    def __call__(self, kind: str, note: Note, **fields: Any) -> dict[str, Any]:
        """What is extracted from a note."""
        body = {"model": kind, "recipe": RECIPE, "text": note.text, "chunk_chars": CHUNK_CHARS}
        body |= {"parallel": PARALLEL} | fields
        reply = httpx.post(self._url, json=body, timeout=120)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def all(self, kind: str, some: Sequence[Note], **fields: Any) -> list[dict[str, Any]]:
        """What is extracted from each, of several at once."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(lambda note: self(kind, note, **fields), some))


def records(run: dict[str, Any]) -> list[Grounded]:
    """What a run found."""
    return [
        Grounded(name=one["class"], text=one["text"], attributes=one["attributes"], start=one["start"], end=one["end"])
        for one in run["records"]
    ]


def spans(run: dict[str, Any]) -> list[Span]:
    """Its chunks."""
    return [Span(chunk["start"], chunk["end"]) for chunk in run["chunks"]]


def statuses(run: dict[str, Any]) -> list[tuple[str, ...]]:
    """Of each chunk, those of all its tries."""
    return [tuple(call["status"] for call in chunk["calls"]) for chunk in run["chunks"]]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_comes_out(asked: Asked, oracle: Oracle, kind: str) -> None:
    """Strict, overlap and attributes are 1.000 over forty notes; every chunk was asked about once, and never again."""
    total, chunks = Scores(), 0
    runs = asked.all(kind, NOTES)
    for note, run in zip(NOTES, runs, strict=True):
        assert run["status"] == "completed"
        assert found(records(run)) == found(note.records)
        assert all(one["verbatim"] and one["fits"] and one["quote"] == one["text"] for one in run["records"])
        assert {status for tries in statuses(run) for status in tries} <= {"ok", "empty"}
        total += scores(note.records, records(run))
        chunks += len(run["chunks"])
    assert (total.strict.f1, total.overlap.f1, total.attributes.f1) == (1.0, 1.0, 1.0)
    assert total.strict.wanted > 200
    assert len(oracle.asked) == len(oracle.calls) <= chunks
    before = len(oracle.asked)
    again = asked.all(kind, NOTES)
    assert len(oracle.asked) == before, "it was asked again what it had said"
    assert [found(records(run)) for run in again] == [found(records(run)) for run in runs]


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_holds_the_model_to_the_schema(asked: Asked, oracle: Oracle, kind: str) -> None:
    """Each in its own words, unless the request wants none of it; the prompt has the schema all the same."""
    asked(kind, NOTES[0])
    held = oracle.bodies()[0]
    oracle.forget()
    asked(kind, NOTES[0], constrained=False)
    free = oracle.bodies()[0]
    assert not HELD[kind] & free.keys()
    assert HELD[kind] & held.keys()
    for body in (held, free):
        assert '"medication":{"type":"string"}' in body["messages"][0]["content"]


@pytest.mark.parametrize("kind", KINDS)
def test_under_faults_comes_out_what_can_be_saved(asked: Asked, oracle: Oracle, kind: str) -> None:
    """Of a mix of all faults, once and always: every record, every status of every try, and so the scores."""
    oracle.plan = Plan(KINDS.index(kind), share=0.6, among=tuple(FAULTS.values()))
    total, right, had = Scores(), Scores(), set[str]()
    for note, run in zip(NOTES, asked.all(kind, NOTES), strict=True):
        wanted = expected(note, spans(run), oracle.plan)
        compare(run, wanted, note)
        had |= {part.fault.fault.name for part in wanted.parts if part.fault}
        total += scores(note.records, records(run))
        right += wanted.scores
    assert total == right
    assert had == set(FAULTS), "the mix has not all of them"
    assert 0.5 < total.strict.f1 < 1


def compare(run: dict[str, Any], wanted: Expected, note: Note) -> None:
    """Whether a run is what it is to be."""
    assert statuses(run) == [part.statuses for part in wanted.parts]
    assert tuple(chunk["status"] for chunk in run["chunks"]) == wanted.statuses
    assert found(records(run)) == wanted.records
    assert (
        run["counts"]["unfit"]
        == sum(part.unfit for part in wanted.parts)
        == sum(not one["fits"] for one in run["records"])
    )
    for one in run["records"]:
        place = one["start"], one["end"]
        assert one["quote"] == (None if None in place else note.text[slice(*place)])
        assert one["verbatim"] == (one["quote"] == one["text"])
    assert run["status"] == ("incomplete" if "failed" in wanted.statuses else "completed")


@pytest.mark.parametrize("attempts", [1, 3])
def test_it_is_asked_as_often_as_was_allowed(asked: Asked, oracle: Oracle, attempts: int) -> None:
    """And what cannot be had in so many tries is as it is."""
    said = tuple(fault for fault in FAULTS.values() if fault.is_said)
    oracle.plan = Plan(7, share=0.9, among=said)
    for note, run in zip(NOTES[:10], asked.all("vllm", NOTES[:10], attempts=attempts), strict=True):
        compare(run, expected(note, spans(run), oracle.plan, attempts), note)


def test_a_long_text_is_read_whole(gateway: Make) -> None:
    """Two hundred kilobytes, three thousand records: each at its place; the second time nobody is asked."""
    (long,) = notes(1, least=200_000)
    with Oracle([long]).serving() as oracle:
        asked = Asked(gateway(backends=[oracle.backend("vllm", alias="vllm")]))
        run = asked("vllm", long, chunk_chars=2000, parallel=32)
        assert found(records(run)) == found(long.records)
        assert run["counts"]["verbatim"] == len(long.records) > 2000
        before = len(oracle.asked)
        assert found(records(asked("vllm", long, chunk_chars=2000))) == found(long.records)
        assert len(oracle.asked) == before > 100


def test_a_later_pass_adds_nothing_to_everything(asked: Asked, oracle: Oracle) -> None:
    """It is another question, with a seed and a temperature, and finds the same."""
    run = asked("llamacpp", NOTES[0], passes=2)
    assert found(records(run)) == found(NOTES[0].records)
    assert len({asked.seed for asked in oracle.asked}) == 2
    assert {body["temperature"] > 0 for body in oracle.bodies()} == {False, True}
