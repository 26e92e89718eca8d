"""A second try continues the first where it broke off, however both were cut; or it is refused before it differs."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AnswerChanged
from gateway.flights.agreement import Agreement
from gateway.wire import reply
from storage.entry import Chunk, Usage

FIELDS = ("content", "reasoning", "refusal", "arguments 0", "arguments 1")
Piece = tuple[int, str, str]
"""A choice, a field of it, and one character or more."""

PIECES = st.tuples(st.integers(0, 1), st.sampled_from(FIELDS), st.text("ab", min_size=1, max_size=3))
ANSWERS = st.lists(PIECES, max_size=12)
CUTS = st.lists(st.booleans(), min_size=40, max_size=40)


def characters(pieces: Iterable[Piece]) -> list[Piece]:
    """One piece for each character."""
    return [(index, field, character) for index, field, text in pieces for character in text]


def steps(pieces: Sequence[Piece], cuts: Sequence[bool], ids: str = "") -> list[Chunk]:
    """An answer cut where `cuts` says, and between choices; calls have names and ids when they begin."""
    made: list[list[Piece]] = []
    begun: set[tuple[int, str]] = set()
    for place, piece in enumerate(characters(pieces)):
        if not made or cuts[place % len(cuts)] or made[-1][-1][0] != piece[0]:
            made.append([])
        made[-1].append(piece)
    return [_step(each, begun, ids) for each in made]


def _step(pieces: Sequence[Piece], begun: set[tuple[int, str]], ids: str) -> Chunk:
    index = pieces[0][0]
    texts = {field: "".join(text for _, where, text in pieces if where == field) for field in FIELDS}
    calls: list[dict[str, Any]] = []
    for field in FIELDS[3:]:
        if texts[field]:
            place = int(field[-1])
            function = {"arguments": texts[field]}
            call: dict[str, Any] = {"index": place, "function": function}
            if (index, field) not in begun:
                begun.add((index, field))
                call = {"index": place, "id": f"{ids}{index}{place}", "type": "function"}
                call["function"] = {"name": f"f{place}", **function}
            calls.append(call)
    fields = {name: texts[name] for name in FIELDS[:3]}
    return Chunk(index=index, **fields, tool_calls=tuple(calls), token_ids=tuple(map(ord, "".join(texts.values()))))


def told(answer: Iterable[Chunk]) -> dict[int, dict[str, Any]]:
    """What a client ends up with, ids aside."""
    answer = list(answer)
    messages = {i: reply.message(step for step in answer if step.index == i) for i in {s.index for s in answer}}
    for message in messages.values():
        for call in message.get("tool_calls", ()):
            assert call.pop("id")
    return messages


def length(had: Iterable[Chunk]) -> int:
    """How many characters were given."""
    texts = sum(len(step.content + step.reasoning + step.refusal) for step in had)
    return texts + sum(len(call["function"]["arguments"]) for step in had for call in step.tool_calls)


def continued(had: Sequence[Chunk], again: Iterable[Chunk], heard: list[Chunk] | None = None) -> list[Chunk]:
    """What a listener has heard in the end; `heard` has it also when that is an error."""
    agreement, heard = Agreement(had), [] if heard is None else heard
    heard.extend(had)
    heard.extend(rest for step in again if (rest := agreement.rest(step)) is not None)
    agreement.end()
    return heard


@given(ANSWERS, CUTS, CUTS, st.integers(0, 40))
def test_any_two_cuttings_agree(answer: list[Piece], cuts: list[bool], others: list[bool], count: int) -> None:
    """Wherever the first broke off, the listener ends up with the answer: nothing twice, nothing left out."""
    had = steps(answer, cuts)[:count]
    again = steps(answer, others, ids="other")
    heard = continued(had, again)
    assert told(heard) == told(again)
    for step in heard[len(had) :]:
        assert step.token_ids in (None, *(each.token_ids for each in again))


@given(ANSWERS, CUTS, st.integers(0, 40))
def test_the_same_steps_lose_nothing(answer: list[Piece], cuts: list[bool], count: int) -> None:
    """An engine that repeats itself exactly is heard exactly, tokens and all."""
    whole = [*steps(answer, cuts), Chunk(finish_reason="stop"), Chunk(index=1, finish_reason="stop")]
    assert continued(whole[:count], whole) == whole


@given(ANSWERS, CUTS, CUTS, st.integers(1, 40), st.integers(0, 40), st.sampled_from("cd"))
def test_another_text_is_refused_in_time(
    answer: list[Piece], cuts: list[bool], others: list[bool], count: int, where: int, letter: str
) -> None:
    """A second try that differs where something was given is refused, and nothing from there on was heard."""
    had = steps(answer, cuts)[:count]
    if not had:
        return
    pieces = characters(answer)
    where %= length(had)
    index, field, _ = pieces[where]
    again = steps([*pieces[:where], (index, field, letter), *pieces[where + 1 :]], others)
    heard: list[Chunk] = []
    with pytest.raises(AnswerChanged):
        continued(had, again, heard)
    assert [step for step in heard[len(had) :] if step.index == index] == []


@given(ANSWERS, CUTS, CUTS, st.integers(1, 40))
def test_a_shorter_text_is_refused(answer: list[Piece], cuts: list[bool], others: list[bool], count: int) -> None:
    """Whether it says that it has finished or just ends."""
    had = steps(answer, cuts)[:count]
    if not had:
        return
    shorter = steps(characters(answer)[: length(had) - 1], others)
    with pytest.raises(AnswerChanged):
        continued(had, shorter)
    with pytest.raises(AnswerChanged):
        continued(had, [*shorter, Chunk(index=had[-1].index, finish_reason="stop")])


def test_a_step_that_is_cut_has_no_tokens() -> None:
    """There are none for half a step; those after it are whole again."""
    had = [Chunk(content="ab", token_ids=(1,), logprobs={"content": [1]})]
    again = [
        Chunk(content="a", token_ids=(2,), logprobs={"content": [2]}, prompt_token_ids=(9,)),
        Chunk(content="bc", token_ids=(3, 4), logprobs={"content": [3]}),
        Chunk(content="d", token_ids=(5,), logprobs={"content": [5]}, after_ms=3),
    ]
    assert continued(had, again) == [*had, Chunk(content="c"), again[-1]]


def test_a_token_without_text_is_not_heard_twice() -> None:
    """Half a character has a token and no text: at the seam nobody can tell whose it is, so no tokens are given."""
    had = [Chunk(content="a", token_ids=(1,)), Chunk(token_ids=(2,))]
    other = [Chunk(content="a", token_ids=(1,)), Chunk(token_ids=(9,)), Chunk(content="é", token_ids=(3,))]
    assert continued(had, other) == [*had, Chunk(content="é")]
    same = [*had, Chunk(token_ids=(4,)), Chunk(content="é", token_ids=(3,))]
    assert continued(had, same) == same


def test_the_end_is_heard_once() -> None:
    """A finish and a usage that were given are not given again; and there is no other end."""
    end = [Chunk(content="a"), Chunk(finish_reason="stop"), Chunk(usage=Usage(1, 1))]
    assert continued(end, end) == end
    again = [Chunk(content="a", finish_reason="stop"), Chunk(usage=Usage(1, 1)), Chunk(usage=Usage(0, 1))]
    assert continued(end, again) == [*end, again[-1]]
    for other in ("length", "tool_calls"):
        with pytest.raises(AnswerChanged):
            continued(end, [Chunk(content="a"), Chunk(finish_reason=other)])
    with pytest.raises(AnswerChanged):
        continued(end, [Chunk(content="a"), Chunk(content="b"), Chunk(finish_reason="stop")])


def test_another_order_is_another_answer() -> None:
    """New reasoning before old content would be heard after it."""
    had = [Chunk(reasoning="hm"), Chunk(content="a")]
    with pytest.raises(AnswerChanged):
        continued(had, [Chunk(reasoning="hm, well"), Chunk(content="a")])


def call(place: int, name: str, arguments: str, **label: str) -> Chunk:
    """A step with one delta of a tool call."""
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return Chunk(tool_calls=({"index": place, **label, "function": function},), token_ids=(place,))


def test_a_call_keeps_its_id() -> None:
    """Servers draw ids anew; a client that has one goes on with it, also where each delta repeats it."""
    had = [call(0, "f", "{", id="x", type="function")]
    begun, more, next_ = call(0, "f", "{", id="y", type="function"), call(0, "", "}", id="y"), call(1, "g", "", id="z")
    assert continued(had, [begun, more, next_]) == [*had, call(0, "", "}"), next_]
    with pytest.raises(AnswerChanged):
        continued(had, [call(0, "g", "{", id="y", type="function")])


def test_choices_are_compared_apart() -> None:
    """One may run ahead of the other."""
    had = [Chunk(index=0, content="a"), Chunk(index=1, content="x")]
    again = [Chunk(index=1, content="xy"), Chunk(index=2, content="n"), Chunk(index=0, content="ab")]
    assert continued(had, again)[2:] == [
        Chunk(index=1, content="y"),
        Chunk(index=2, content="n"),
        Chunk(index=0, content="b"),
    ]


def test_nothing_had_means_nothing_compared() -> None:
    """The very objects come through."""
    again = [Chunk(content="a", token_ids=(1,)), Chunk(finish_reason="stop"), Chunk(usage=Usage(1, 1))]
    heard = continued([], again)
    assert all(one is other for one, other in zip(heard, again, strict=True))


def test_a_long_answer_is_compared_in_no_time() -> None:
    """Each text is walked once."""
    had = [Chunk(content="word ") for _ in range(20_000)]
    again = [Chunk(content="wo"), *(Chunk(content="rd wo") for _ in range(20_000))]
    assert len("".join(step.content for step in continued(had, again))) == 100_002
