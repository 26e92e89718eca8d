"""One suite for every backend over the real engines: vLLM, llama.cpp, Ollama's API over llama.cpp, and the script."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway import building
from gateway.canonical import Request
from gateway.config import BackendConfig
from gateway.errors import BackendError, BackendRefused, BackendUnavailable
from gateway.routing.backend import Backend
from gateway.wire import openai_chat, openai_completions
from storage.entry import Chunk
from storage.vector import unpacked
from tests.engines import vllm
from tests.suites.frozen import slowed

pytestmark = pytest.mark.engines

IDLE_S = 10.0
MANY_TOKENS = 1500


class Kind(msgspec.Struct, frozen=True):
    """One backend, and what its server can do."""

    name: str
    url: str | None = None
    """The fixture that has its address."""
    samples: bool = True
    """It reads a model: stop strings, seeds and probabilities mean something."""
    embeds: bool = True
    token_ids: bool = False
    several_prompts: bool = True
    refuses_long_prompts: bool = True
    knows_its_models: bool = False


KINDS = {
    "scripted": Kind("scripted", samples=False, token_ids=True, refuses_long_prompts=False),
    "llamacpp": Kind("llamacpp", "llamacpp_url"),
    "vllm": Kind("vllm", "vllm_url", embeds=False, token_ids=True, knows_its_models=True),
    "ollama": Kind("ollama", "ollama_url", several_prompts=False, knows_its_models=True),
}


class Served(msgspec.Struct, frozen=True):
    """A backend of one kind, as the composition root builds it."""

    kind: Kind
    backend: Backend
    config: BackendConfig

    async def heard(self, request: Request) -> list[Chunk]:
        """Everything it says."""
        async with aclosing(self.backend.complete(request)) as steps:
            return [step async for step in steps]

    async def chat(self, content: str, **params: Any) -> list[Chunk]:
        """Its answer to one message."""
        return await self.heard(chat([{"role": "user", "content": content}], **params))


def only(ability: str) -> pytest.MarkDecorator:
    """Run a test with those kinds alone that have the ability."""
    able = {name: kind for name, kind in KINDS.items() if getattr(kind, ability)}
    return pytest.mark.parametrize("kind", able.values(), ids=able, indirect=True)


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    return request.param


@pytest.fixture
def url(kind: Kind, request: pytest.FixtureRequest) -> str:
    """Its server's address; the server starts with the first test that needs it."""
    return request.getfixturevalue(kind.url) if kind.url else ""


@pytest.fixture
async def served(kind: Kind, url: str, model_name: str) -> AsyncIterator[Served]:
    """The backend."""
    found = build(kind, url, model_name)
    yield found
    await found.backend.aclose()


def build(kind: Kind, url: str, model: str) -> Served:
    """Build it as `askonce serve` does."""
    script = Path(os.devnull) if kind.name == "scripted" else None
    config = BackendConfig(kind=kind.name, model=model, url=url, script=script, first_token_timeout_s=120)  # type: ignore[arg-type]
    return Served(kind, building.BUILD[kind.name](config), config)


def chat(messages: Sequence[Mapping[str, Any]], **fields: Any) -> Request:
    """A chat request, decoded as from the wire."""
    body = {"model": "m", "messages": messages, "max_tokens": 16, "temperature": 0} | fields
    return openai_chat.decode(msgspec.json.encode(body))


def completion(prompt: Any, **fields: Any) -> Request:
    """A completion request, decoded as from the wire."""
    body = {"model": "m", "prompt": prompt, "max_tokens": 8, "temperature": 0} | fields
    return openai_completions.decode(msgspec.json.encode(body))


def text(steps: Sequence[Chunk], index: int = 0) -> str:
    """What one choice says."""
    return "".join(step.content for step in steps if step.index == index)


def check(steps: Sequence[Chunk], choices: int = 1) -> None:
    """What is true of every complete answer."""
    *said, last = steps
    assert last.usage is not None, "the usage comes last"
    assert all(step.usage is None for step in said), "and once"
    assert last == Chunk(usage=last.usage)
    assert last.usage.prompt_tokens > 0
    assert last.usage.completion_tokens > 0
    assert {step.index for step in said} == set(range(choices))
    for index in range(choices):
        mine = [step for step in said if step.index == index]
        ends = [place for place, step in enumerate(mine) if step.finish_reason]
        assert ends == [len(mine) - 1], "each choice ends once, with its last step"
        assert mine[-1].finish_reason in {"stop", "length"}
    for step in said:
        step.content.encode()


async def test_who_answers_is_stable_and_says_the_engine(served: Served, url: str) -> None:
    """Asked again, and by another process, it is the same: a restart must not lose the cache."""
    identity = await served.backend.identity()
    assert identity.engine == served.kind.name
    assert identity.model_version
    other = build(served.kind, url, served.config.model)
    assert await other.backend.identity() == identity == await served.backend.identity()
    await other.backend.aclose()
    await served.backend.ping()


async def test_a_chat_is_answered(served: Served) -> None:
    """Step by step, with one end and the usage last."""
    steps = await served.chat("What is the capital of France?")
    check(steps)
    assert text(steps)
    assert len([step for step in steps if step.content]) > 1, "as a stream"


async def test_a_text_is_continued(served: Served) -> None:
    """Completions give plain text too."""
    steps = await served.heard(completion("The capital of France is"))
    check(steps)
    assert text(steps)


async def test_greedy_answers_repeat(served: Served) -> None:
    """The same question, the same words."""
    first, second = [text(await served.chat("What is the capital of France?")) for _ in range(2)]
    assert first == second


async def test_several_choices_each_end_once(served: Served) -> None:
    """Also where the server makes one at a time, or sends one usage for each."""
    steps = await served.heard(chat([{"role": "user", "content": "Hello"}], n=2, temperature=1, seed=1))
    check(steps, 2)


async def test_several_prompts_are_several_choices(served: Served) -> None:
    """Or a refusal that says so."""
    request = completion(["Hello", "The capital of France is"])
    if served.kind.several_prompts:
        check(await served.heard(request), 2)
    else:
        with pytest.raises(Exception, match="one text here"):
            await served.heard(request)


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limit_on_tokens_is_kept(served: Served, limit: int) -> None:
    """And said to be the reason."""
    steps = await served.chat("Repeat: one two three four five six seven", max_tokens=limit)
    check(steps)
    assert steps[-1].usage is not None
    assert steps[-1].usage.completion_tokens == limit
    assert [step.finish_reason for step in steps if step.finish_reason] == ["length"]


@only("samples")
async def test_a_stop_string_ends_the_answer_before_it(served: Served) -> None:
    """Exactly where it begins, even in the middle of a token, and with the reason `stop`."""
    whole = text(await served.chat("What is the capital of France?"))
    stop = whole[2:4]
    steps = await served.chat("What is the capital of France?", stop=[stop])
    check(steps)
    assert text(steps) == whole[: whole.index(stop)]
    assert [step.finish_reason for step in steps if step.finish_reason] == ["stop"]


@only("samples")
async def test_equal_seeds_give_equal_answers(served: Served) -> None:
    """And of several others at least one differs: the seed is really used."""
    asked = {"temperature": 2, "max_tokens": 12}
    await served.chat("Tell me a story.", **asked)  # llama.cpp: with a warm prefix cache from here on
    first, second, *others = [text(await served.chat("Tell me a story.", seed=s, **asked)) for s in (7, 7, 8, 9, 10)]
    assert first == second
    assert any(other != first for other in others)


@only("samples")
@pytest.mark.parametrize("most", [0, 1, 3])
async def test_log_probabilities_are_those_of_the_text(served: Served, most: int) -> None:
    """One for each token, most likely first, with no more alternatives than were asked for."""
    steps = await served.chat("What is the capital of France?", logprobs=True, top_logprobs=most, max_tokens=4)
    check(steps)
    entries = [entry for step in steps if step.logprobs for entry in step.logprobs["content"]]
    assert steps[-1].usage is not None
    assert 0 < len(entries) <= steps[-1].usage.completion_tokens  # llama.cpp leaves out parts of characters
    for entry in entries:
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) <= most
        likely = [other["logprob"] for other in entry["top_logprobs"]]
        assert likely == sorted(likely, reverse=True)
        if likely:
            assert likely[0] >= entry["logprob"] - 1e-3
    if "\ufffd" not in text(steps):  # no engine tells the bytes of half a character
        assert text(steps) in b"".join(bytes(entry["bytes"]) for entry in entries).decode(errors="replace")


@only("samples")
@pytest.mark.parametrize("most", [0, 2])
async def test_log_probabilities_of_a_completion_have_their_own_form(served: Served, most: int) -> None:
    """Lists side by side, as OpenAI's completions document it, from every engine."""
    steps = await served.heard(completion("The capital of France is", logprobs=most, max_tokens=4))
    check(steps)
    lists = [step.logprobs for step in steps if step.logprobs]
    tokens = [token for each in lists for token in each["tokens"]]
    numbers = [number for each in lists for number in each["token_logprobs"]]
    tops = [top for each in lists for top in each["top_logprobs"] or ()]
    assert steps[-1].usage is not None
    assert 0 < len(tokens) == len(numbers) <= steps[-1].usage.completion_tokens
    assert all(number <= 0 for number in numbers)
    places, said = [place for each in lists for place in each["text_offset"]], "".join(step.content for step in steps)
    assert all(said.startswith(token, place) for token, place in zip(tokens, places, strict=True) if token in said)
    assert places == sorted(places)
    assert places[0] == 0
    assert all(len(top) <= most + 1 for top in tops)  # the token itself comes on top where it is not among the likely


@only("samples")
async def test_what_the_engine_would_ignore_is_refused(served: Served) -> None:
    """Rather than answered as if it had not been asked for."""
    for field, value in (("best_of", 3), ("echo", True), ("suffix", "end")):
        if served.kind.name == "vllm" and field == "echo":
            continue  # it can
        with pytest.raises(BackendRefused) as caught:
            await served.heard(completion("Hello", **{field: value}))
        assert caught.value.status == 400
        assert field in str(caught.value) or "insert" in str(caught.value)


async def test_no_probabilities_unless_asked(served: Served) -> None:
    """They would be kept for nothing."""
    assert all(step.logprobs is None for step in await served.chat("Hello"))


@only("samples")
async def test_earlier_turns_and_the_system_are_read(served: Served) -> None:
    """They are part of the prompt: it gets longer with them."""
    question = {"role": "user", "content": "What is the capital of France?"}
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! How can I help?"}, question]
    system = [{"role": "system", "content": "You answer in one short sentence."}, question]
    lengths: list[int] = []
    for messages in ([question], turns, system):
        steps = await served.heard(chat(messages))
        check(steps)
        assert steps[-1].usage is not None
        lengths.append(steps[-1].usage.prompt_tokens)
    assert lengths[1] > lengths[0] < lengths[2]


@pytest.mark.parametrize("odd", ["é漢😀", "a\u2028b\u2029c\x85d", "x\r\n\t ", '"\\{}', "\x7f\ufeff\ufffd", "ﷺ" * 50])
async def test_any_text_can_be_asked(served: Served, odd: str) -> None:
    """Characters of all sizes, and those that look like line ends."""
    check(await served.chat(f"Repeat: {odd}", max_tokens=64))
    check(await served.heard(completion(odd)))


@only("samples")
async def test_sampled_tokens_of_any_kind_are_whole_text(served: Served) -> None:
    """At a high temperature tokens are pieces of characters: what arrives is text all the same, in both engines."""
    for seed in range(5):
        steps = await served.chat("é漢😀", temperature=2, seed=seed, max_tokens=64, top_p=1)
        check(steps)


async def test_token_ids_are_complete_or_absent(served: Served) -> None:
    """Never a partial list: it could not be replayed."""
    steps = [step for step in await served.chat("What is the capital of France?") if step.usage is None]
    if served.kind.token_ids:
        assert all(step.token_ids is not None for step in steps)
        assert sum(len(step.token_ids or ()) for step in steps) > 0
    else:
        assert all(step.token_ids is None for step in steps)


async def test_many_at_once_are_all_answered(served: Served) -> None:
    """More than the server has slots."""
    answers = await asyncio.gather(*(served.chat(f"Repeat: {number}") for number in range(12)))
    for steps in answers:
        check(steps)


@only("samples")
async def test_closing_early_frees_the_server(served: Served, url: str, request: pytest.FixtureRequest) -> None:
    """A client who leaves costs nothing more: the engine itself says that it is idle again, long before it was done."""
    engine_url = request.getfixturevalue("llamacpp_url") if served.kind.name == "ollama" else url
    asked = {"max_tokens": MANY_TOKENS, "temperature": 2}
    if served.kind.name != "ollama":  # it has no way to be told to go on
        asked["ignore_eos"] = True
    at_first = await generated(engine_url)
    core = vllm.engine_core(engine_url) if served.kind.name == "vllm" else 0
    async with AsyncExitStack() as stack:
        # It may make all its tokens before its own front end has sent one, or has looked whether a client is there.
        stopped = await stack.enter_async_context(slowed(core)) if core else asyncio.Event()
        async with aclosing(served.backend.complete(chat([{"role": "user", "content": "Count."}], **asked))) as steps:
            await anext(steps)
            stopped.set()
            if served.kind.name == "llamacpp":  # Ollama has no way to be told to go on; vLLM's gauge comes late
                await until_running(engine_url, 1)
        await until_noticed(engine_url)
    await until_running(engine_url, 0)
    assert await made_in_all(engine_url) - at_first < MANY_TOKENS


async def until_noticed(url: str) -> None:
    """Wait until a server has read what was sent to it before, and that is that somebody hung up."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for _ in range(5):
            await client.get("/health", headers={"connection": "close"})


async def made_in_all(url: str) -> int:
    """What `generated` says once it says the same twice."""
    made, last = await generated(url), -1
    async with asyncio.timeout(IDLE_S):
        while made != last:
            await asyncio.sleep(0.5)
            made, last = await generated(url), made
    return made


async def until_running(url: str, count: int) -> None:
    """Wait until an engine says that it works on so many requests."""
    async with asyncio.timeout(IDLE_S):
        while await running(url) != count:  # noqa: ASYNC110 -- the engine tells nobody
            await asyncio.sleep(0.05)


async def generated(url: str) -> int:
    """How many tokens vLLM has ever made; 0 for engines that do not say."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        metrics = (await client.get("/metrics")).text
    lines = [line for line in metrics.splitlines() if line.startswith("vllm:generation_tokens_total")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


async def running(url: str) -> int:
    """How many requests an engine is working on."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        slots = await client.get("/slots")
        if slots.status_code == 200:
            return sum(slot["is_processing"] for slot in slots.json())
        metrics = (await client.get("/metrics")).text
    lines = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


async def test_texts_become_vectors(served: Served) -> None:
    """Equal texts equal ones, in order; or an error that says what is missing."""
    asked = [
        Request(kind="embedding", model="m", prompt={"input": word}, params={}, extra={})
        for word in ("Paris", "London", "Paris")
    ]
    if not served.kind.embeds:
        with pytest.raises(BackendError) as caught:
            await served.backend.embed(asked)
        assert caught.value.status in {400, 404, 502}
        assert len(str(caught.value)) > 30
        return
    vectors = await served.backend.embed(asked)
    first, second, third = (unpacked(vector.values) for vector in vectors)
    assert len(first) == len(second) == len(third) > 0
    assert first == pytest.approx(third, abs=1e-4)
    assert first != pytest.approx(second, abs=1e-4)
    assert all(vector.tokens > 0 for vector in vectors)
    assert sum(value * value for value in first) == pytest.approx(1, abs=0.01)


async def test_an_echo_begins_with_the_prompt(served: Served) -> None:
    """And goes on with what is said; its tokens cannot be had then."""
    if served.kind.name != "vllm":
        pytest.skip("the others refuse it")
    params = {"temperature": 0, "max_tokens": 3, "echo": True}
    request = Request(kind="completion", model="m", prompt={"prompt": "The capital of France"}, params=params, extra={})
    said = [step async for step in served.backend.complete(request)]
    text = "".join(step.content for step in said)
    assert text.startswith("The capital of France")
    assert len(text) > len("The capital of France")
    assert any(step.token_ids is None for step in said if step.content)


async def test_a_vector_is_the_same_beside_others(served: Served) -> None:
    """Of texts of other lengths, in one call or in several; an engine that mixes them up is asked for one at a time."""
    if served.kind.name != "llamacpp":
        pytest.skip("the others' servers see to it themselves")
    words = ["Paris", "Paris is the capital of France", "a " * 50, "London"]
    asked = [Request(kind="embedding", model="m", prompt={"input": word}, params={}, extra={}) for word in words]
    alone = [unpacked((await served.backend.embed([one]))[0].values) for one in asked]
    beside = await asyncio.gather(*(served.backend.embed([one]) for one in asked))
    for first, second, (third,) in zip(alone, await served.backend.embed(asked), beside, strict=True):
        assert first == pytest.approx(unpacked(second.values), abs=1e-5)
        assert first == pytest.approx(unpacked(third.values), abs=1e-5)


@only("refuses_long_prompts")
async def test_a_prompt_that_is_too_long_is_refused(served: Served) -> None:
    """In the engine's own words, as the client's mistake."""
    with pytest.raises(BackendRefused) as caught:
        await served.chat("word " * 5000)
    assert caught.value.status == 400
    assert "context" in str(caught.value).lower()


@only("samples")
async def test_what_the_engine_cannot_do_is_said(served: Served) -> None:
    """An image for a model without eyes: an error, not an answer to half of the question."""
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
        "RU5ErkJggg=="
    )
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": pixel}}]
    with pytest.raises(BackendError) as caught:
        await served.heard(chat([{"role": "user", "content": content}]))
    assert len(str(caught.value)) > 30


@only("knows_its_models")
async def test_a_model_the_server_does_not_have_is_named(kind: Kind, url: str) -> None:
    """At the latest when it is asked; llama.cpp serves one model, whatever it is called."""
    served = build(kind, url, "no-such-model")
    with pytest.raises(BackendError, match="no-such-model"):
        await served.chat("Hello")
    if kind.name == "ollama":
        with pytest.raises(BackendUnavailable, match="ollama pull no-such-model"):
            await served.backend.identity()
    await served.backend.aclose()


async def test_fields_nobody_knows_do_no_harm(served: Served) -> None:
    """Nor can a client choose slots, salts or ids for others."""
    harmless = {"frobnicate": {"deep": [1]}, "cache_salt": "mine", "id_slot": 99, "priority": -5, "request_id": "x"}
    first = await served.chat("What is the capital of France?", **harmless)
    check(first)
    assert text(first) == text(await served.chat("What is the capital of France?"))
