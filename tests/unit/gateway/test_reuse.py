"""Whatever an index says is near: no answer is given to what differs in more than the words of its last turn."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import key, policy
from gateway.caller import Caller
from gateway.canonical import Identity, Request
from gateway.config import PolicyConfig
from gateway.embedding.embedder import Vectors
from gateway.looking import Named
from gateway.reuse import judge
from gateway.reuse.finding import Finder
from gateway.semantic.asked import asked
from gateway.steering import Steering
from storage.entry import Chunk, Entry, Query, Usage
from storage.tiers import Found, Looked
from storage.vector import packed
from storage.vectors.models import Model
from storage.vectors.near import Neighbour

VECTOR = packed([1.0, 0.0])
CALLER = Caller(tenant="acme")
TERMS = policy.terms(
    PolicyConfig(semantic="on"), Request(kind="chat", model="m", prompt={}, params={}, extra={}), Steering()
)
TEXTS = st.sampled_from(["Hi", "hi", "Hi.", "How old is the moon?", "how old is the moon"])
TURN = st.builds(
    lambda role, text, name: {"role": role, "content": text} | ({"name": name} if name else {}),
    st.sampled_from(["system", "user", "assistant"]),
    TEXTS,
    st.sampled_from(["", "Ada"]),
)
TOOL = {"role": "tool", "tool_call_id": "c", "content": "42"}
CHAT = st.builds(
    lambda before, last, more: {"messages": [*before, {"role": "user", "content": last}], **more},
    st.lists(st.one_of(TURN, st.just(TOOL)), max_size=3),
    TEXTS,
    st.sampled_from(
        [{}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"response_format": {"type": "x"}}]
    ),
)
QUERIES = st.builds(
    lambda prompt, scope, model, params, extra, version: key.query(
        Request(
            kind="chat" if "messages" in prompt else "completion",
            model=model,
            prompt=prompt,
            params=params,
            extra=extra,
        ),
        scope,
        Identity("vllm", "1", version),
    ),
    st.one_of(CHAT, st.builds(lambda text: {"prompt": text}, TEXTS)),
    st.sampled_from(["acme", "rival", "shared/acme"]),
    st.sampled_from(["m", "n"]),
    st.sampled_from([{}, {"temperature": 0}, {"n": 2}]),
    st.sampled_from([{}, {"unheard_of": 1}]),
    st.sampled_from(["w", "v"]),
)


class Everything:
    """An index that finds everything near to everything, whoever asks, and keeps it all."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self._kept = {query.key: _entry(query) for query in queries}

    async def model(self) -> Model:
        """The one that all is embedded by."""
        return Model(1, "e", "1", 2)

    async def nearest(self, model: Model, place: Any, vector: bytes, but: bytes, most: int) -> list[Neighbour]:
        """All of it."""
        del model, place, vector, most
        return [Neighbour(key_, 1.0) for key_ in self._kept if key_ != but]

    async def get(self, key: bytes, max_age_s: float | None = None) -> Looked:
        """Whatever is kept."""
        del max_age_s
        return Looked(Found(self._kept[key], "memory"))

    async def find(self, key: bytes, max_age_s: float | None = None, *, scope: str | None = None) -> Looked:
        """The same, whosever it is."""
        del scope
        return await self.get(key, max_age_s)

    async def embed(self, requests: Sequence[Request], caller: Caller, steering: Steering, reply_id: str) -> Vectors:
        """One vector for all."""
        del requests, caller, steering, reply_id
        return Vectors(
            values=(VECTOR,), keys=(b"",), usage=Usage(), hits=0, status="hit", tier="", provenance="exact", kept=True,
            origin_id=None, age_s=None, backend="", fallback="", model_version="1",
        )  # fmt: skip

    async def whole(self, request: Request, caller: Caller, steering: Steering, reply_id: str) -> Any:
        """Nobody is asked to judge."""
        raise NotImplementedError


def _entry(query: Query) -> Entry:
    return Entry(query=query, origin_id="", backend="", created_at=0.0, duration_ms=0.0, chunks=(Chunk(content="a"),))


@given(QUERIES, st.lists(QUERIES, max_size=8))
async def test_no_answer_crosses_a_context(query: Query, others: list[Query]) -> None:
    """Neither to another tenant nor to another system prompt, turn, tool, schema, parameter, model or weights."""
    there = Everything(others)
    finder = Finder(there, "e", there, there, there)
    named = Named(Request(kind="chat", model=query.model, prompt={}, params={}, extra={}), query, TERMS, Looked())
    found = [one.found.entry.query async for one in finder.candidates(named, CALLER, Steering(), 0.0)]
    question = asked(query)
    same = {other.key for other in others if asked(other).context == question.context and other.key != query.key}
    assert {one.key for one in found} == (same if question.context else set())
    for one in found:
        assert (one.scope, one.model, one.model_version, one.params) == (
            query.scope, query.model, query.model_version, query.params,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "word"), [("yes", True), (" Yes.\n", True), ("NO", False), ("yes, but", None), ("", None)]
)
def test_only_a_clear_word_counts(text: str, word: bool | None) -> None:
    """Anything else is none."""
    assert judge.word(text) is word


@given(st.text(), st.text())
def test_no_question_gets_out_of_its_place(first: str, second: str) -> None:
    """Each is one line of JSON, whatever is in it."""
    said = judge.question("j", first, second).prompt["messages"][-1]["content"]
    assert said.count("\n") == 1
