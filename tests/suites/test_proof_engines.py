"""Answers of the real engines, proved: greedy and seeded ones are the same again, and a changed one is found out."""

import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from gateway import app
from gateway.caller import Caller
from gateway.config import BackendConfig, Config
from gateway.routes.parts import Parts
from gateway.steering import Steering
from gateway.wire import openai_chat, openai_completions, openai_embeddings
from storage.entry import Chunk, Entry
from storage.vector import packed, unpacked

pytestmark = pytest.mark.engines

CALLER = Caller(tenant="default", key_id="abc")
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
ENGINES = ("llamacpp", "vllm")


class Engine:
    """A gateway with one real engine behind it."""

    def __init__(self, kind: str, parts: Parts, model: str) -> None:
        self.kind = kind
        self.parts = parts
        self.model = model

    async def chat(self, messages: Any = FRANCE, **fields: Any) -> bytes:
        """The key of an answer to a conversation."""
        body = {"model": self.model, "messages": messages, "max_tokens": 24, "temperature": 0} | fields
        return await self._asked(openai_chat.decode(msgspec.json.encode(body)))

    async def completion(self, prompt: Any, **fields: Any) -> bytes:
        """The key of a text's continuation."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": 12, "temperature": 0} | fields
        return await self._asked(openai_completions.decode(msgspec.json.encode(body)))

    async def embedding(self, text: str) -> bytes:
        """The key of an embedding."""
        items = openai_embeddings.decode(msgspec.json.encode({"model": self.model, "input": text})).items
        return (await self.parts.embedder.embed(items, CALLER, Steering(), "embd-1")).keys[0]

    async def proved(self, key: bytes) -> Any:
        """The proof, as JSON."""
        return msgspec.json.decode(msgspec.json.encode(await self.parts.proof.verify(key, CALLER)))

    async def entry(self, key: bytes) -> Entry:
        """What is kept."""
        found = (await self.parts.tiers.find(key)).found
        assert found is not None
        return found.entry

    async def changed(self, key: bytes, **fields: Any) -> None:
        """Change the record."""
        entry = await self.entry(key)
        newer = {"created_at": entry.created_at + 1e-3, "replaces": True}
        self.parts.tiers.put(msgspec.structs.replace(entry, **(newer | fields)))

    async def _asked(self, request: Any) -> bytes:
        answer = await self.parts.pipeline.answer(request, CALLER, Steering(), "chatcmpl-1")
        async with aclosing(answer.chunks) as steps:
            async for _ in steps:
                pass
        return answer.key


@pytest.fixture(params=ENGINES)
async def engine(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, model_name: str
) -> AsyncIterator[Engine]:
    """Each engine in turn, behind a gateway of this test's own."""
    url = request.getfixturevalue(f"{request.param}_url")
    backend = BackendConfig(kind=request.param, model=model_name, url=url, first_token_timeout_s=120)
    async with app.running(Config(database_url=database_url, redis_url=redis_url, backends=(backend,))) as parts:
        yield Engine(request.param, parts, model_name)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 1, "seed": 7},
        {"temperature": 1, "seed": -(2**63), "top_p": 0.9, "n": 2},
        {"logprobs": True, "top_logprobs": 3},
        {"stop": ["Paris"]},
        {"response_format": {"type": "json_object"}},
        {"max_tokens": 1},
    ],
    ids=["greedy", "seeded", "seeded choices", "log-probabilities", "stop string", "JSON", "cut short"],
)
async def test_a_chat_is_the_same_again(engine: Engine, fields: dict[str, Any]) -> None:
    """By its tokens where the engine gives them, else by its text; the record has the outcome."""
    key = await engine.chat(**fields)
    done = await engine.proved(key)
    assert (done["outcome"], done["divergence"]) == ("identical", None), done
    assert done["compared"] == ("tokens" if engine.kind == "vllm" else "text")
    assert (done["reproducible"], done["key_matches"], done["identity"]["same"], done["kept"]) == (True,) * 4
    shown = msgspec.json.decode(await engine.parts.proof.record(key, CALLER))
    assert [one["outcome"] for one in shown["verifications"]] == ["identical"]
    assert shown["made_by"] == shown["verifications"][0]["made_by"] == "abc"
    assert (shown["prompt_token_ids"] is not None) == (engine.kind == "vllm")
    assert all((choice["token_ids"] is not None) == (engine.kind == "vllm") for choice in shown["choices"])


@pytest.mark.parametrize("fields", [{}, {"temperature": 1, "seed": 3}], ids=["greedy", "seeded"])
async def test_a_completion_is_the_same_again(engine: Engine, fields: dict[str, Any]) -> None:
    """Of one text, of several, and of tokens."""
    for prompt in ("The capital of France is", ["Hello", "The capital of Italy is"], [5, 6, 7]):
        done = await engine.proved(await engine.completion(prompt, **fields))
        assert done["outcome"] == "identical", done


async def test_an_answer_made_from_a_warm_cache_is_the_same_again(engine: Engine) -> None:
    """The engine had computed the beginning of the prompt for somebody else."""
    start = "You answer in one short sentence. " * 12
    for city in ("Italy", "Spain", "France"):
        messages = [{"role": "user", "content": f"{start}What is the capital of {city}?"}]
        key = await engine.chat(messages)
    if engine.kind == "llamacpp":
        assert (await engine.entry(key)).usage.cached_tokens
    assert (await engine.proved(key))["outcome"] == "identical"


async def test_a_changed_answer_parts_where_it_was_changed(engine: Engine) -> None:
    """At the right token and character, with both alternatives and how likely what the model says really was."""
    key = await engine.chat()
    steps = (await engine.entry(key)).chunks
    text = "".join(step.content for step in steps)
    place = next(i for i, step in enumerate(steps) if step.content and i > 2)
    character = len("".join(step.content for step in steps[:place]))
    changed = msgspec.structs.replace(steps[place], content="~", token_ids=(3,) if steps[place].token_ids else None)
    await engine.changed(key, chunks=(*steps[:place], changed, *steps[place + 1 :]))
    done = await engine.proved(key)
    where = done["divergence"]
    assert (done["outcome"], where["where"]) == ("diverged", "content")
    assert where["character"] == character
    assert text[: where["character"]].endswith(where["before"])
    assert text[where["character"] :].startswith(where["now"]["text"])
    assert where["then"]["text"].startswith("~")
    assert (done["tries"], done["repeats"], done["notes"]) == (2, True, [])
    assert where["now"]["token"] == steps[place].content
    assert 0.5 < math.exp(where["now"]["logprob"]) <= 1
    assert where["token"] == place - _silent_steps(steps[:place])
    if engine.kind == "vllm":
        assert (where["then"]["token_id"], where["now"]["token_id"]) == (3, (steps[place].token_ids or ())[0])


async def test_another_model_is_named(engine: Engine) -> None:
    """Where the record says that other weights or another version of the engine answered."""
    key = await engine.chat()
    query = (await engine.entry(key)).query
    await engine.changed(key, query=msgspec.structs.replace(query, engine_version="0", model_version="older"))
    done = await engine.proved(key)
    assert done["outcome"] == "identical"
    assert (done["identity"]["same"], done["identity"]["then"]["model_version"]) == (False, "older")
    assert done["notes"][-1] == "Another version of the engine and another version of the model answers now."


@pytest.mark.parametrize("engine", ["llamacpp"], indirect=True)
async def test_an_embedding_is_the_same_again(engine: Engine) -> None:
    """Every bit of it; and a changed one shows how far it is away. (The vLLM here serves no embeddings.)"""
    await engine.embedding("something before it")
    key = await engine.embedding("What is the capital of France?")
    done = await engine.proved(key)
    assert (done["outcome"], done["compared"]) == ("identical", "vector"), done
    values = unpacked((await engine.entry(key)).embedding)
    await engine.changed(key, embedding=packed([*values[:4], values[4] + 0.5, *values[5:]]))
    apart = (await engine.proved(key))["divergence"]
    assert (apart["dimension"], round(apart["max_difference"], 3)) == (4, 0.5)
    assert 0 < apart["cosine"] < 1


def _silent_steps(steps: tuple[Chunk, ...]) -> int:
    """Steps that have no token: vLLM's first."""
    return sum(not step.content and not step.token_ids for step in steps)
