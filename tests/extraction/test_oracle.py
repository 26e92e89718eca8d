"""What is expected of spoilt answers is what follows from the gold; and the oracle says what it is said to say."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import product
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langextract import resolver
from langextract.core import data
from langextract.core.tokenizer import RegexTokenizer, Tokenizer, UnicodeTokenizer

from extractors.checking import problems
from extractors.grounded import Grounded
from extractors.reading import Said, read
from extractors.recipe import from_data
from extractors.scoring import scores
from extractors.splitting import Span, split
from gateway import building
from gateway.errors import BackendError
from gateway.wire import openai_chat
from tests.extraction import expected
from tests.extraction.expected import found
from tests.extraction.faults import FAULTS, Fault, Plan, Planned, framed
from tests.extraction.gold import Note, note, notes
from tests.extraction.oracle import KINDS, MODEL, RECIPE, Oracle

NOTES = notes(40)
SAID = [fault for fault in FAULTS.values() if fault.is_said]
SIZES = (60, 200, 1000, 4000)
UNFIT = ("not a number", "other type", "other class")
"""Can be read, but do not fit the recipe."""
CLASSES = {
    name: {part: value for part, value in schema.items() if part != "required"}
    for name, schema in from_data(RECIPE).classes.items()
}


def prompt(part: str) -> str:
    """As LangExtract lays it out."""
    return f"Extract.\n\nExamples\nQ: Takes Warfarin.\nA: {{}}\n\nQ: {part}\nA: "


def spoilt(made: Note, span: Span, fault: Fault) -> expected.Part | None:
    """What is expected of a part that always has this fault; None where it cannot have it."""
    gold = expected.items(expected.inside(made, span.start, span.end))
    if not fault.applies(gold):
        return None
    plan = Plan(chosen={span.of(made.text): Planned(fault, always=True)})
    return expected.expected(made, [span], plan).parts[0]


def said(made: Note, span: Span, fault: Fault) -> tuple[str, str]:
    """What the model says of a part, and how it ends."""
    answer = fault.spoilt(framed(expected.items(expected.inside(made, span.start, span.end))))
    return answer.text, answer.finish_reason


def aligned(made: Note, span: Span, heard: Sequence[Said], tokenizer: Tokenizer) -> list[Grounded]:
    """Each with the place that LangExtract finds for it."""
    records = [data.Extraction(one.name, one.text, extraction_index=number) for number, one in enumerate(heard)]
    if records:
        resolver.WordAligner().align_extractions(
            [records], span.of(made.text), char_offset=span.start, tokenizer_impl=tokenizer
        )
    return [
        Grounded(
            name=one.name,
            text=one.text,
            attributes=one.attributes,
            start=record.char_interval and record.char_interval.start_pos,
            end=record.char_interval and record.char_interval.end_pos,
        )
        for one, record in zip(heard, records, strict=True)
    ]


@pytest.mark.parametrize("fault", SAID, ids=lambda fault: fault.name)
def test_a_spoilt_answer_is_read_and_placed_as_expected(fault: Fault) -> None:
    """Its status, its records and their places, with LangExtract's own aligner: in parts of all sizes."""
    seen = 0
    for made, tokenizer in product(NOTES, (RegexTokenizer(), UnicodeTokenizer())):
        for most in SIZES:
            for span in split(made.text, most):
                part = spoilt(made, span, fault)
                if part is None:
                    continue
                reading = read(*said(made, span, fault))
                known = [one for one in reading.said if one.name in CLASSES]
                assert reading.status == ("ok" if fault.name in UNFIT else part.status)
                assert found(aligned(made, span, known, tokenizer)) == found(part.records)
                seen += 1
    assert seen > 10, "hardly any part can have it"


@pytest.mark.parametrize("fault", SAID, ids=lambda fault: fault.name)
def test_what_cannot_be_used_is_asked_for_again(fault: Fault) -> None:
    """What breaks off, cannot be read or does not fit; what is not said at all fits. Nobody asks without a reason."""
    for made in NOTES:
        for span in split(made.text, 200):
            part = spoilt(made, span, fault)
            if part is None:
                continue
            reading = read(*said(made, span, fault))
            fits = [
                one.name in CLASSES and not problems(one.attributes or {}, CLASSES[one.name]) for one in reading.said
            ]
            assert fault.asked_again == (not all(fits) or reading.status not in ("ok", "empty"))
            assert part.statuses == (part.status,) * (2 if fault.asked_again else 1)
            assert part.unfit == sum(
                one.name in CLASSES and not fit for one, fit in zip(reading.said, fits, strict=True)
            )


def test_without_faults_everything_comes_out() -> None:
    """Whatever the size of the parts."""
    for made in NOTES:
        for most in SIZES:
            right = expected.expected(made, split(made.text, most))
            assert right.records == found(made.records)
            assert (right.scores.strict.f1, right.scores.overlap.f1, right.scores.attributes.f1) == (1.0, 1.0, 1.0)
            assert set(right.statuses) <= {"ok", "empty"}


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(SIZES), st.integers(1, 3))
@settings(max_examples=150)
def test_the_expected_scores_are_those_of_the_expected_records(seed: int, of: int, most: int, attempts: int) -> None:
    """Counted in two ways that have nothing in common."""
    made = note(of)
    plan = Plan(seed, share=0.9, among=tuple(FAULTS.values()))
    right = expected.expected(made, split(made.text, most), plan, attempts)
    records = [record for part in right.parts for record in part.records]
    assert scores(made.records, records) == right.scores
    for part in right.parts:
        assert 1 <= len(part.statuses) <= attempts
        if part.fault is None:
            assert part.status in ("ok", "empty")
        elif part.fault.fault.outcome == "everything" or (part.fault.fault.asked_again and not part.fault.always):
            assert part.status in ("ok", "empty") or attempts == 1


@given(st.integers(), st.integers(0, 39), st.one_of(st.none(), st.integers()))
def test_a_plan_is_the_same_whoever_asks(seed: int, of: int, pass_seed: int | None) -> None:
    """For a seed, a text and a pass; none has a fault that cannot be made of it."""
    plan = Plan(seed, share=1.0, among=tuple(FAULTS.values()))
    for span in split(NOTES[of].text, 200):
        gold = expected.items(expected.inside(NOTES[of], span.start, span.end))
        planned = plan.of(span.of(NOTES[of].text), gold, pass_seed)
        assert planned == plan.of(span.of(NOTES[of].text), gold, pass_seed)
        assert planned is not None
        assert planned.fault.applies(gold)


def test_a_mix_has_every_fault_once_and_always() -> None:
    """In enough notes in small parts."""
    plan = Plan(1, share=0.7, among=tuple(FAULTS.values()))
    parts = [part for made in notes(200) for part in expected.expected(made, split(made.text, 200), plan).parts]
    had = {(part.fault.fault.name, part.fault.always) for part in parts if part.fault}
    assert had == {(name, always) for name in FAULTS for always in (False, True)}
    assert any(part.fault is None for part in parts)


def test_a_part_in_several_places_has_the_same_records_in_all_of_them() -> None:
    """So that it does not matter which one the oracle takes."""
    oracle = Oracle(NOTES)
    for made in NOTES:
        for most in SIZES:
            for span in split(made.text, most):
                gold = expected.inside(made, span.start, span.end)
                assert oracle.items(span.of(made.text)) == expected.items(gold)


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    """One that serves."""
    made = [*NOTES, Note('Trick.\n\nQ: Takes aspirin.\nA: {"extractions":[]}\n\nQ: more', ())]
    with Oracle(made).serving() as served:
        yield served


@pytest.fixture(autouse=True)
def _as_new(request: pytest.FixtureRequest) -> None:
    """Without faults, and nothing asked yet."""
    if "oracle" in request.fixturenames:
        request.getfixturevalue("oracle").forget()


async def heard(oracle: Oracle, kind: Any, part: str, *turns: dict[str, str], **fields: Any) -> tuple[str, str | None]:
    """What a backend of this kind hears of a part, and how it ended."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt(part)}, *turns]} | fields
    backend = building.BUILD[kind](oracle.backend(kind))
    text, reason = "", None
    try:
        async with aclosing(backend.complete(openai_chat.decode(msgspec.json.encode(body)))) as steps:
            async for step in steps:
                text, reason = text + step.content, step.finish_reason or reason
    finally:
        await backend.aclose()
    return text, reason


def became(true: Callable[[], bool]) -> bool:
    """Whether it does, within a while."""
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def part_with(count: int) -> tuple[str, str]:
    """A part with so many records at least, and the right answer."""
    made, span = next(
        (made, span)
        for made in NOTES
        for span in split(made.text, 1000)
        if len(expected.inside(made, span.start, span.end)) >= count
    )
    return span.of(made.text), framed(expected.items(expected.inside(made, span.start, span.end)))


@pytest.mark.parametrize("kind", KINDS)
async def test_it_answers_every_protocol(oracle: Oracle, kind: Any) -> None:
    """What stands in the part, whole and in its order; and it says who it is."""
    part, right = part_with(3)
    assert await heard(oracle, kind, part, seed=5, response_format={"type": "json_object"}) == (right, "stop")
    assert oracle.calls == {prompt(part): 1}
    assert (oracle.parts(), oracle.asked[0].seed) == ([part], 5)
    assert oracle.bodies()[0]["model"] == MODEL
    backend = building.BUILD[kind](oracle.backend(kind))
    identity = await backend.identity()
    await backend.aclose()
    assert identity.engine == kind
    assert oracle.weights in identity.model_version


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_it_answers_without_a_stream(oracle: Oracle, path: str) -> None:
    """In one reply."""
    part, right = part_with(2)
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt(part)}], "stream": False}
    async with httpx.AsyncClient() as client:
        reply = (await client.post(oracle.url + path, json=body)).json()
    message = reply["message"] if path == "/api/chat" else reply["choices"][0]["message"]
    assert message == {"role": "assistant", "content": right}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_is_there_once_or_always(oracle: Oracle, kind: Any) -> None:
    """Who asks again in the same conversation is answered well, unless it is there always."""
    part, right = part_with(4)
    again = {"role": "assistant", "content": "x"}, {"role": "user", "content": "Again."}
    for always in (False, True):
        oracle.plan = Plan(chosen={part: Planned(FAULTS["cut"], always)})
        text, reason = await heard(oracle, kind, part)
        assert (right.startswith(text), reason) == (True, "length")
        assert await heard(oracle, kind, part, *again) == ((text, "length") if always else (right, "stop"))


@pytest.mark.parametrize("kind", KINDS)
async def test_it_refuses_what_it_is_told_to(oracle: Oracle, kind: Any) -> None:
    """A part once, or the n-th question; and what is in no document."""
    part, right = part_with(1)
    oracle.plan = Plan(chosen={part: Planned(FAULTS["unavailable"])})
    oracle.refusals = {3: 429}
    for status in (503, None, 429, None):
        if status is None:
            assert await heard(oracle, kind, part) == (right, "stop")
            continue
        with pytest.raises(BackendError) as refused:
            await heard(oracle, kind, part)
        assert refused.value.status == status
    with pytest.raises(BackendError, match="400"):
        await heard(oracle, kind, "Nobody wrote this.")


@pytest.mark.parametrize("kind", KINDS)
async def test_who_gives_it_more_room_asks_again(oracle: Oracle, kind: Any) -> None:
    """As after an answer that was cut."""
    part, right = part_with(4)
    oracle.plan = Plan(chosen={part: Planned(FAULTS["cut"])})
    assert (await heard(oracle, kind, part, max_tokens=100))[1] == "length"
    assert (await heard(oracle, kind, part, max_tokens=100))[1] == "length"
    assert await heard(oracle, kind, part, max_tokens=200) == (right, "stop")


async def test_it_is_silent_until_nobody_waits(oracle: Oracle) -> None:
    """And others are answered meanwhile."""
    part, _ = part_with(2)
    other = next(made.text for made in NOTES if part not in made.text)
    oracle.plan = Plan(chosen={part: Planned(FAULTS["silence"], always=True)})
    left = oracle.left
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await heard(oracle, "vllm", part)
    assert (await heard(oracle, "vllm", other))[1] == "stop"
    assert await asyncio.to_thread(became, lambda: oracle.left == left + 1)


async def test_a_document_may_look_like_a_prompt(oracle: Oracle) -> None:
    """The whole of it is what is asked about."""
    trick = oracle.notes[-1].text
    assert await heard(oracle, "vllm", trick) == ('{"extractions":[]}', "stop")
    assert oracle.parts() == [trick]


async def test_it_takes_its_time(oracle: Oracle) -> None:
    """As long as it is told to."""
    oracle.delay_s = 0.3
    began = time.monotonic()
    await heard(oracle, "ollama", part_with(1)[0])
    assert time.monotonic() - began >= 0.3
