"""Comparing answers, and making requests of records: what is the same, and where exactly what is not parts."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway import key
from gateway.canonical import Identity, Request
from gateway.errors import DamagedRecord
from gateway.proof import rebuilding, vectors
from gateway.proof.comparison import Divergence, compare, parted
from gateway.wire import openai_chat, openai_completions, openai_embeddings
from storage.entry import Chunk, Query, Usage
from storage.vector import packed
from tests.suites.entries import TEXT

WORDS = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=12)
VOICE = st.sampled_from(["content", "reasoning", "refusal"])
WHO = Identity("e", "1", "w")


def said(words: Sequence[str], *, voice: str = "content", ids: bool = True, finish: str = "stop") -> list[Chunk]:
    """An answer of one step a word; a word's token id follows from it."""
    steps = [Chunk(**{voice: word}, token_ids=(_id(word),) if ids else None) for word in words]
    return [*steps, Chunk(finish_reason=finish, token_ids=() if ids else None), Chunk(usage=Usage(1, len(words)))]


def _id(word: str) -> int:
    return int.from_bytes(word.encode()[:3], "big")


def found(then: Sequence[Chunk], now: Sequence[Chunk]) -> Divergence:
    """The divergence there must be."""
    compared = compare(then, now)
    assert compared.outcome == "diverged"
    assert compared.divergence is not None
    return compared.divergence


@given(WORDS, VOICE, st.booleans(), st.data())
def test_the_same_answer_cut_otherwise_is_identical(
    words: list[str], voice: str, ids: bool, data: st.DataObject
) -> None:
    """Steps are how an answer travelled, not what it says."""
    then = said(words, voice=voice, ids=ids)
    place = data.draw(st.integers(0, len(words)))
    joined = Chunk(**{voice: "".join(words[:place])}, token_ids=tuple(map(_id, words[:place])) if ids else None)
    compared = compare(then, [joined, *then[place:]])
    assert (compared.outcome, compared.compared) == ("identical", "tokens" if ids else "text")
    assert [choice.outcome for choice in compared.choices] == ["identical"]


@given(WORDS, VOICE, st.text(min_size=1, max_size=4), st.booleans(), st.data())
def test_the_first_difference_is_found(words: list[str], voice: str, new: str, ids: bool, data: st.DataObject) -> None:
    """The token and the character, with the same text before them, whichever answer is the older one."""
    place = data.draw(st.integers(0, len(words) - 1))
    assume(_id(new) != _id(words[place]))
    other = [*words[:place], new, *words[place + 1 :]]
    one, two = "".join(words), "".join(other)
    assume(one != two)
    where = found(said(words, voice=voice, ids=ids), said(other, voice=voice, ids=ids))
    assert (where.where, where.token) == (voice, place if ids else None)
    assert where.character is not None
    assert one[: where.character] == two[: where.character]
    assert one[where.character : where.character + 1] != two[where.character : where.character + 1]
    assert one[: where.character].endswith(where.before)
    assert one[where.character :].startswith(where.then.text)
    if ids:
        assert (where.then.token_id, where.now.token_id) == (_id(words[place]), _id(new))
        assert (where.then.token, where.now.token) == (words[place], new)
    turned = found(said(other, voice=voice, ids=ids), said(words, voice=voice, ids=ids))
    assert (turned.then, turned.now, turned.token) == (where.now, where.then, where.token)


@given(WORDS, st.data())
def test_an_answer_that_ends_early_parts_at_its_end(words: list[str], data: st.DataObject) -> None:
    """Which is said to be its end, with the reason."""
    place = data.draw(st.integers(0, len(words) - 1))
    where = found(said(words), said(words[:place], finish="length"))
    assert (where.token, where.character) == (place, len("".join(words[:place])))
    assert (where.now.text, where.now.token_id, where.now.finish_reason) == ("", None, "length")
    assert where.then.finish_reason is None


@given(TEXT, TEXT)
def test_sequences_part_where_they_first_differ(one: str, two: str) -> None:
    """As counted item by item."""
    counted = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    assert parted(one, two) == (None if one == two else counted)
    assert parted(list(one), list(two)) == parted(one, two)


def test_tokens_are_compared_only_where_both_are_whole() -> None:
    """Else the text decides, and the comparison says so."""
    whole, partial = said(["a", "b"]), said(["a", "b"])
    partial[1] = msgspec.structs.replace(partial[1], token_ids=None)
    assert compare(whole, partial).compared == compare(partial, whole).compared == "text"
    assert compare(whole, partial).outcome == "identical"


def test_other_tokens_behind_the_same_text_are_a_difference() -> None:
    """The model said something else that only looks the same."""
    where = found([Chunk(content="ab", token_ids=(1, 2), finish_reason="stop")],
                  [Chunk(content="ab", token_ids=(1, 3), finish_reason="stop")])  # fmt: skip
    assert (where.where, where.token, where.character) == ("tokens", 1, None)
    assert (where.then.token_id, where.now.token_id) == (2, 3)


def test_the_first_choice_that_differs_is_shown_and_all_are_told() -> None:
    """Also one that is missing."""
    then = [Chunk(index=i, content=text, finish_reason="stop") for i, text in enumerate("abc")]
    now = [*then[:1], Chunk(index=1, content="x", finish_reason="length")]
    compared = compare(then, now)
    assert [choice.outcome for choice in compared.choices] == ["identical", "diverged", "diverged"]
    assert compared.choices[1].finish_reasons == ("stop", "length")
    assert compared.choices[2].finish_reasons == ("stop", None)
    assert compared.divergence is not None
    assert compared.divergence.choice == 1


def _calling(city: str, name: str, pieces: int = 1) -> list[Chunk]:
    arguments = f'{{"city":"{city}"}}'
    size = -(-len(arguments) // pieces)
    deltas = [arguments[start : start + size] for start in range(0, len(arguments), size)]
    head: dict[str, Any] = {"index": 0, "id": name, "type": "function", "function": {"name": "weather"}}
    rest = [Chunk(tool_calls=({"index": 0, "function": {"arguments": delta}},)) for delta in deltas]
    return [Chunk(tool_calls=(head,)), *rest, Chunk(finish_reason="tool_calls")]


def test_tool_calls_are_compared_joined_and_without_their_ids() -> None:
    """Servers draw ids by lot; the name and the arguments are what the model said."""
    assert compare(_calling("Paris", "call-1"), _calling("Paris", "call-2", pieces=5)).outcome == "identical"
    where = found(_calling("Paris", "call-1"), _calling("Parma", "call-1"))
    assert where.where == "tool_calls"
    assert (where.then.text[:2], where.now.text[:2]) == ("is", "ma")


def _likely(*tokens: tuple[str, float, dict[str, float]]) -> list[Chunk]:
    """A chat's steps as llama.cpp gives them: likelihoods, and no ids."""
    steps = [
        Chunk(content=token, logprobs={"content": [
            {"token": token, "logprob": number, "bytes": None,
             "top_logprobs": [{"token": name, "logprob": other} for name, other in others.items()]}
        ]})
        for token, number, others in tokens
    ]  # fmt: skip
    return [*steps, Chunk(finish_reason="stop")]


def test_likelihoods_are_shown_for_both() -> None:
    """Of the token that was said, and of the other one in its place; also where only one of the two has them."""
    then = _likely(("It is ", -0.1, {}), ("Paris", -0.5, {"Paris": -0.5, "Lyon": -0.9}))
    now = _likely(("It is ", -0.1, {}), ("Lyon", -0.6, {"Lyon": -0.6, "Paris": -0.7}))
    where = found(then, now)
    assert (where.token, where.character) == (1, 6)
    assert (where.then.token, where.then.logprob, where.then.other_logprob) == ("Paris", -0.5, -0.9)
    assert (where.now.token, where.now.logprob, where.now.other_logprob) == ("Lyon", -0.6, -0.7)
    bare = [msgspec.structs.replace(step, logprobs=None) for step in then]
    where = found(bare, now)
    assert (where.token, where.then.logprob) == (1, None)
    assert (where.now.token, where.now.logprob, where.now.other_logprob) == ("Lyon", -0.6, -0.7)


def test_likelihoods_of_a_completion_are_shown_too() -> None:
    """They have another form."""

    def steps(word: str, other: str) -> list[Chunk]:
        listed = {"tokens": [word], "token_logprobs": [-0.4], "top_logprobs": [{word: -0.4, other: -1.2}]}
        return [Chunk(content=word, token_ids=(len(word),), logprobs=listed, finish_reason="stop")]

    where = found(steps("Paris", "Lyon"), steps("Lyon", "Paris"))
    assert (where.then.token_id, where.then.logprob, where.then.other_logprob) == (5, -0.4, -1.2)
    assert (where.now.token_id, where.now.logprob, where.now.other_logprob) == (4, -0.4, -1.2)


FIELDS: dict[str, Any] = {
    "seed": -(2**63), "temperature": 0.7, "stop": ["\0", "é"], "logit_bias": {"5": 1.5}, "max_tokens": 7,
    "unknown": {"deep": [1e20, 1.0, None, "x"]}, "user": "somebody",
}  # fmt: skip
ASKED = {
    "chat": openai_chat.decode(
        msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "é\u2028\0"}], **FIELDS})
    ),
    "completion": openai_completions.decode(msgspec.json.encode({"model": "m", "prompt": [[1, 2], [3]], **FIELDS})),
    "embedding": openai_embeddings.decode(msgspec.json.encode({"model": "m", "input": "é", "dimensions": 8})).items[0],
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_record_is_asked_as_it_was(asked: Request) -> None:
    """Everything a backend is told, to the last bit of a seed."""
    query = key.query(asked, "s", WHO)
    again = rebuilding.request(query)
    assert (again.kind, again.model, again.prompt, again.params, again.extra) == (
        asked.kind, asked.model, asked.prompt, asked.params, asked.extra,
    )  # fmt: skip
    assert again.choices == asked.choices
    assert rebuilding.is_own_key(query)
    assert key.query(again, "s", WHO) == query


@pytest.mark.parametrize(
    "changed",
    [{"prompt": '{"messages":[]}'}, {"params": '{"extra":{},"known":{}}'}, {"model": "n"}, {"scope": "t"},
     {"engine_version": "2"}, {"model_version": "x"}],
    ids=str,
)  # fmt: skip
def test_a_changed_question_is_not_the_keys_own(changed: dict[str, str]) -> None:
    """Whichever part of it."""
    query = key.query(ASKED["chat"], "s", WHO)
    assert not rebuilding.is_own_key(msgspec.structs.replace(query, **changed))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"known":{}}', '{"known":{"seed":"x"},"extra":{}}'])
def test_a_damaged_question_is_named(text: str) -> None:
    """And is never asked."""
    query: Query = msgspec.structs.replace(key.query(ASKED["chat"], "s", WHO), params=text)
    with pytest.raises(DamagedRecord, match="cannot be read"):
        rebuilding.request(query)
    assert not rebuilding.is_own_key(query)


FLOATS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20)


@given(FLOATS, st.data())
def test_vectors_part_at_their_first_dimension(values: list[float], data: st.DataObject) -> None:
    """Bit by bit: zero and minus zero are two."""
    assert vectors.compare(packed(values), packed(values)) is None
    place = data.draw(st.integers(0, len(values) - 1))
    other = [*values[:place], data.draw(st.floats(-1e6, 1e6, width=32)), *values[place + 1 :]]
    assume(packed(other) != packed(values))
    apart = vectors.compare(packed(values), packed(other))
    assert apart is not None
    assert (apart.dimension, apart.then, apart.now) == (place, values[place], other[place])
    assert apart.max_difference == abs(values[place] - other[place])
    assert apart.cosine is None or -1.001 <= apart.cosine <= 1.001
    shorter = vectors.compare(packed(values), packed(values[:place]))
    assert shorter is not None
    assert (shorter.dimensions, shorter.now, shorter.cosine) == ((len(values), place), None, None)
