"""What an engine refuses in words of its own, or would get wrong: a client hears 400 and the name of the field."""

import json
from contextlib import aclosing
from typing import Any

import pytest

from gateway import asking, building
from gateway.canonical import Request
from gateway.config import BackendConfig
from gateway.errors import BackendError, BackendRefused
from gateway.routing.backend import Backend
from gateway.wire import ollama as wire
from gateway.wire import openai_chat, openai_completions
from tests.suites.faulty import Peer, faulty
from tests.suites.test_backend_faults import ending, piece
from tests.suites.test_tool_ways import CHATS, Model, ask, build, props

TWO_TURNS = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Bye"}]
JINJA = (
    "Unable to generate parser for this template. Automatic parser generation failed: \n------------\nWhile executing "
    "CallExpression at line 12, column 27 in source:\n...% 2 == 0) -%}\nError: Jinja Exception: "
    "Conversation roles must alternate user/assistant/user/assistant/..."
)
PLAIN = "Conversation roles must alternate user/assistant/user/assistant/..."


class Particular(Model):
    """A server that refuses what `refuses` finds, in these words."""

    def __init__(self, kind: str, words: str, refuses: Any = lambda _: True, **replies: Any) -> None:
        super().__init__(kind, **replies)
        self.words, self.refuses = words, refuses

    async def serve(self, peer: Any) -> None:
        """Refuse, or answer as others do."""
        body = json.loads(peer.body) if peer.body else None
        if peer.path in {*CHATS, "/v1/completions"} and self.refuses(body):
            self.asked.append((peer.path, body))
            await peer.head("400 Bad Request", "application/json")
            return await peer.say(json.dumps({"error": {"message": self.words}}))
        return await super().serve(peer)


async def refused(model: Model, *, text: bool = False, **fields: Any) -> BackendRefused:
    """How it refuses this."""
    with pytest.raises(BackendRefused) as caught:
        await ask(model, text=text, **fields)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize("fields", [{"prompt": [5, 6]}, {"prompt": [[5], [6]]}], ids=["one", "several"])
async def test_echo_of_token_ids_is_refused(fields: dict[str, Any]) -> None:
    """vLLM leaves the text out, with probabilities that belong to another: no answer is better than that one."""
    model = Model("vllm")
    error = await refused(model, text=True, echo=True, **fields)
    assert error.param == "echo"
    assert not model.asked


@pytest.mark.parametrize(
    ("param", "fields"), [("n", {"n": 2, "temperature": 0}), ("min_tokens", {"min_tokens": 5, "max_tokens": 3})]
)
async def test_what_vllm_takes_alone_but_not_together_is_refused_by_name(param: str, fields: dict[str, Any]) -> None:
    """It is not even asked."""
    model = Model("vllm")
    assert (await refused(model, **fields)).param == param
    assert not model.chats()


async def test_more_choices_than_slots_are_refused_by_name() -> None:
    """llama.cpp says how many it has; as many as that are fine."""
    model = Model("llamacpp", **props(total_slots=4))
    assert (await refused(model, n=5)).param == "n"
    assert not model.chats()
    with pytest.raises(BackendError, match="ended its stream"):  # this one makes a single choice, whatever it is asked
        await ask(model, n=4)
    assert model.chats()[0]["n"] == 4


WORDS = {
    "no such tokens": ("Prompt contains invalid tokens", {"prompt": [999999]}, "prompt"),
    "out of vocabulary": ("Token id 999999 is out of vocabulary", {"prompt": [999999]}, "prompt"),
    "a field's limit": ("Field 'n': Value must be between 1 <= value <= 2, but got 50", {"n": 2}, "n"),
    "a rule": ("min_tokens must be less than or equal to max_tokens=7, got 9.", {"min_tokens": 9}, "min_tokens"),
    "a rule's name": ("no good (parameter=stop, value=[''])", {}, "stop"),
    "nothing that is known": ("the moon must be full", {}, None),
}


@pytest.mark.parametrize(("words", "fields", "param"), WORDS.values(), ids=WORDS)
async def test_the_engines_words_name_the_field(words: str, fields: dict[str, Any], param: str | None) -> None:
    """Where it does not do so itself."""
    error = await refused(Particular("openai", words), text=True, **fields)
    assert error.param == param
    assert words in str(error)


@pytest.mark.parametrize(("kind", "words"), [("llamacpp", JINJA), ("vllm", PLAIN), ("openai", PLAIN)])
async def test_turns_of_one_role_are_one_where_the_template_wants_them_to_alternate(kind: str, words: str) -> None:
    """Asked apart first, for other templates see the difference; from then on together."""
    model = Particular(kind, words, lambda body: len(body["messages"]) > 1)
    heard = await ask(model, times=2, messages=TWO_TURNS)
    assert "".join(step.content for step in heard) == "hello"
    together = [{"role": "user", "content": "Hi\n\nBye"}]
    assert [body["messages"] for body in model.chats()] == [TWO_TURNS, together, together]


async def test_turns_stay_apart_where_the_template_takes_them() -> None:
    """They are two turns then, as the client said."""
    model = Model("vllm", piece("vllm", "hello") + ending("vllm"))
    await ask(model, messages=TWO_TURNS)
    assert model.chats()[0]["messages"] == TWO_TURNS


@pytest.mark.parametrize("words", [JINJA, PLAIN])
async def test_turns_that_no_template_takes_are_refused_in_a_sentence(words: str) -> None:
    """Not with the engine's listing of its template."""
    model = Particular("llamacpp", words)
    error = await refused(model, messages=[{"role": "assistant", "content": "Hi"}, *TWO_TURNS])
    assert (error.param, error.code) == ("messages", "template_refused")
    assert str(error).endswith(PLAIN)
    assert "\n" not in str(error)


async def embedded(model: Model, **fields: Any) -> list[Any]:
    """The vectors for a request to Ollama's `/api/embed`."""
    requests = wire.decode_embed(json.dumps({"model": "m"} | fields).encode())
    async with faulty(model.serve) as server:
        backend = build(model.kind, server.url)
        try:
            return await backend.embed(requests)
        finally:
            await backend.aclose()


LONG = "word " * 100
SHORT = "a word"
VECTOR = {"data": [{"index": 0, "embedding": [1.0]}], "embeddings": [[1.0]], "usage": {"prompt_tokens": 1}}


@pytest.mark.parametrize(("kind", "path"), [("vllm", "/v1/embeddings"), ("ollama", "/api/embed")])
async def test_an_engine_that_cuts_texts_is_told_whether_to(kind: str, path: str) -> None:
    """To embed: yes, unless the client says no. A text that no model cuts is the question of OpenAI's clients."""
    model = Model(kind, **{path.replace("/", "_"): VECTOR})
    for fields in ({"input": LONG}, {"input": LONG, "truncate": False}, {"input": SHORT}):
        await embedded(model, **fields)
    asked = [body for at, body in model.asked if at == path]
    if kind == "ollama":
        assert [body["truncate"] for body in asked] == [True, False, False]
    else:
        assert [body.get("truncate_prompt_tokens") for body in asked] == [-1, None, None]


class Short(Model):
    """A llama.cpp that embeds eight tokens at most: a letter each, between two of its own."""

    async def serve(self, peer: Peer) -> None:
        """Tokenize, embed or refuse."""
        body = json.loads(peer.body) if peer.body else {}
        self.asked.append((peer.path, body))
        if peer.path == "/tokenize":
            letters = [ord(letter) for letter in body["content"]]
            await peer.head(kind="application/json")
            return await peer.say(json.dumps({"tokens": [1, *letters, 2] if body["add_special"] else letters}))
        if any(isinstance(one, str) or len(one) > 8 for one in body["input"]):
            await peer.head("500 No", "application/json")
            words = (
                "input (502 tokens) is too large to process. increase the physical batch size (current batch size: 8)"
            )
            return await peer.say(json.dumps({"error": {"message": words}}))
        await peer.head(kind="application/json")
        data = [{"index": place, "embedding": [1.0]} for place in range(len(body["input"]))]
        return await peer.say(json.dumps({"data": data, "usage": {"prompt_tokens": 8}}))


async def test_what_llamacpp_does_not_cut_is_cut_for_it() -> None:
    """With the tokens it wants around a text; each of several texts, if it must be."""
    model = Short("llamacpp")
    assert len(await embedded(model, input=[LONG, "abc"])) == 2
    asked = [body["input"] for path, body in model.asked if path == "/v1/embeddings"]
    letters = [ord(letter) for letter in LONG]
    assert asked[-1] in ([[1, *letters[:6], 2], [1, 97, 98, 99, 2]], [[1, 97, 98, 99, 2]])
    assert [1, *letters[:6], 2] in [one for many in asked for one in many]


async def test_a_text_that_must_not_be_cut_is_refused_in_words_for_the_client() -> None:
    """Nobody there can make a batch larger."""
    with pytest.raises(BackendRefused) as caught:
        await embedded(Short("llamacpp"), input=LONG, truncate=False)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    assert caught.value.param == "input"
    assert "has 502 tokens" in str(caught.value)
    assert "batch" not in str(caught.value)


@pytest.mark.engines
@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
async def test_the_engines_themselves_refuse_so(kind: str, request: pytest.FixtureRequest) -> None:
    """And take two turns of one role, whose template does not; what they tell of their model fits what they do."""
    url, model = request.getfixturevalue(f"{kind}_url"), request.getfixturevalue("model_name")
    backend = building.BUILD[kind](BackendConfig(kind=kind, model=model, url=url))  # type: ignore[arg-type]
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("logit_bias", {"messages": TWO_TURNS, "logit_bias": {"999999": 5}}),
        ("reasoning_effort", {"messages": TWO_TURNS, "reasoning_effort": "high"}),
        ("messages", {"messages": [{"role": "user", "content": "long " * 9000}]}),
        ("prompt", {"prompt": [999999]}),
        ("n", {"messages": TWO_TURNS, "n": 50, "temperature": 0}),
    ]
    try:
        for param, fields in wrong:
            decode = openai_completions.decode if "prompt" in fields else openai_chat.decode
            with pytest.raises(BackendRefused) as caught:
                await _answered(backend, decode(json.dumps({"model": model, **fields}).encode()))
            assert (caught.value.status, caught.value.param) == (400, param)
        body = {"model": model, "messages": TWO_TURNS, "max_tokens": 4}
        assert await _answered(backend, openai_chat.decode(json.dumps(body).encode()))
        told = await backend.described()
        assert ("embedding" in told.capabilities) == (kind == "llamacpp")
        assert told.context_tokens == 2048
    finally:
        await backend.aclose()


async def _answered(backend: Backend, asked: Request) -> str:
    async with aclosing(asking.asked(backend, asked)) as steps:
        return "".join([step.content async for step in steps])
