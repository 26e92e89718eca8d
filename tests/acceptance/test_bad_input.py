"""Everything a client can get wrong, over HTTP: the right status, a code, the field, and a sentence that helps."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from tests.acceptance.in_thread import MODEL, Gateway
from tests.conftest import Servers

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
HI = [{"role": "user", "content": "Hi"}]


class Refusal(msgspec.Struct):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str


class Reply(msgspec.Struct, forbid_unknown_fields=True):
    """The envelope around it."""

    error: Refusal


def chat(**fields: Any) -> bytes:
    """A chat request with some fields changed."""
    return json.dumps({"model": MODEL, "messages": HI} | fields).encode()


def said(*messages: Any) -> bytes:
    """A chat request with these messages."""
    return chat(messages=list(messages))


def raw(fields: bytes) -> bytes:
    """A chat request with some bytes as further fields."""
    return chat()[:-1] + b", " + fields + b"}"


BAD: dict[str, tuple[str, bytes, int, str, str | None, str]] = {
    # the body
    "empty body": (CHAT, b"", 400, "invalid_json", None, "not valid JSON"),
    "blank body": (CHAT, b" \r\n\t", 400, "invalid_json", None, "not valid JSON"),
    "no JSON": (CHAT, b"hello", 400, "invalid_json", None, "line 1, column 1"),
    "cut JSON": (CHAT, chat()[:-1], 400, "invalid_json", None, "not valid JSON"),
    "trailing garbage": (CHAT, chat() + b"x", 400, "invalid_json", None, "Extra data"),
    "two objects": (CHAT, chat() + chat(), 400, "invalid_json", None, "Extra data"),
    "an array": (CHAT, b"[" + chat() + b"]", 400, "invalid_json", None, "must be a JSON object"),
    "a string": (CHAT, b'"hi"', 400, "invalid_json", None, "must be a JSON object"),
    "null": (CHAT, b"null", 400, "invalid_json", None, "must be a JSON object"),
    "BOM": (CHAT, b"\xef\xbb\xbf" + chat(), 400, "invalid_json", None, "BOM"),
    "UTF-16": (CHAT, chat().decode().encode("utf-16"), 400, "invalid_utf8", None, "not valid UTF-8"),
    "invalid UTF-8": (CHAT, raw(b'"x": "\xff"'), 400, "invalid_utf8", None, "0xff"),
    "half of a surrogate pair": (CHAT, raw(rb'"x": "\ud800"'), 400, "invalid_unicode", None, "surrogate"),
    "half, in a message": (CHAT, chat().replace(b"Hi", rb"\udc00"), 400, "invalid_unicode", None, "surrogate"),
    "half, in a name": (CHAT, raw(rb'"\ud800": 1'), 400, "invalid_unicode", None, "surrogate"),
    "raw NUL": (CHAT, raw(b'"x": "\x00"'), 400, "invalid_json", None, "control character"),
    "NaN": (CHAT, raw(b'"temperature": NaN'), 400, "invalid_json", None, "NaN is not JSON"),
    "-Infinity": (CHAT, raw(b'"x": -Infinity'), 400, "invalid_json", None, "-Infinity is not JSON"),
    "1e999": (CHAT, raw(b'"x": 1e999'), 400, "invalid_json", None, "too large"),
    "2^63": (CHAT, raw(b'"x": 9223372036854775808'), 400, "integer_out_of_range", None, "as a string"),
    "2^53": (CHAT, raw(b'"x": [9007199254740992]'), 400, "integer_out_of_range", None, "as a string"),
    "400 digits": (CHAT, raw(b'"x": 1' + b"0" * 400), 400, "integer_out_of_range", None, "as a string"),
    "5 000 digits": (CHAT, raw(b'"x": 1' + b"0" * 5000), 400, "invalid_json", None, "too many digits"),
    "duplicate name": (CHAT, raw(b'"model": "other"'), 400, "duplicate_key", "model", "occurs twice"),
    "duplicate, nested": (CHAT, raw(b'"x": {"y": [{"z": 1, "z": 1}]}'), 400, "duplicate_key", "z", "occurs twice"),
    "duplicate, escaped": (CHAT, raw(rb'"x": 1, "\u0078": 1'), 400, "duplicate_key", "x", "occurs twice"),
    "duplicate half character": (CHAT, raw(rb'"\ud800": 1, "\ud800": 1'), 400, "duplicate_key", "?", "occurs twice"),
    "10 000 arrays": (CHAT, raw(b'"x": ' + b"[" * 10_000 + b"]" * 10_000), 400, "nesting_too_deep", None, "100"),
    "1 000 000 arrays": (CHAT, b"[" * 1_000_000, 400, "nesting_too_deep", None, "deeper than 100"),
    "100 000 objects": (CHAT, b'{"a":' * 100_000, 400, "nesting_too_deep", None, "deeper than 100"),
    # its fields
    "only a model": (CHAT, json.dumps({"model": MODEL}).encode(), 400, "missing_field", "messages", "missing"),
    "only messages": (CHAT, json.dumps({"messages": HI}).encode(), 400, "missing_field", "model", "missing"),
    "unknown model": (CHAT, chat(model="gpt-9"), 404, "model_not_found", "model", f"these do: {MODEL}"),
    "unknown long model": (CHAT, chat(model="x" * 100_000), 404, "model_not_found", "model", "xxx…' does not exist"),
    "unknown odd model": (CHAT, chat(model="\x00'\"<é>"), 404, "model_not_found", "model", MODEL),
    "model null": (CHAT, chat(model=None), 400, "invalid_value", "model", "not null"),
    "model number": (CHAT, chat(model=5), 400, "invalid_value", "model", "not a whole number"),
    "model list": (CHAT, chat(model=[MODEL]), 400, "invalid_value", "model", "not a list"),
    "model empty": (CHAT, chat(model=""), 400, "invalid_value", "model", "must not be empty"),
    "no messages": (CHAT, chat(messages=[]), 400, "invalid_value", "messages", "must have at least one message"),
    "messages text": (CHAT, chat(messages="Hi"), 400, "invalid_value", "messages", "not a string"),
    "messages null": (CHAT, chat(messages=None), 400, "invalid_value", "messages", "not null"),
    "message text": (CHAT, said("Hi"), 400, "invalid_value", "messages[0]", "not a string"),
    "no role": (CHAT, said({"content": "Hi"}), 400, "missing_field", "messages[0].role", "missing"),
    "bad role": (CHAT, said(*HI, {"role": "bot"}), 400, "invalid_value", "messages[1].role", "bot"),
    "role number": (CHAT, said({"role": 5}), 400, "invalid_value", "messages[0].role", "not a whole number"),
    "content number": (
        CHAT,
        said({"role": "user", "content": 5}),
        400,
        "invalid_value",
        "messages[0].content",
        "not a whole number",
    ),
    "content object": (
        CHAT,
        said({"role": "user", "content": {}}),
        400,
        "invalid_value",
        "messages[0].content",
        "not an object",
    ),
    "part without type": (
        CHAT,
        said({"role": "user", "content": [{"text": "Hi"}]}),
        400,
        "missing_field",
        "messages[0].content[0].type",
        "missing",
    ),
    "tool_calls object": (
        CHAT,
        said({"role": "assistant", "tool_calls": {}}),
        400,
        "invalid_value",
        "messages[0].tool_calls",
        "not an object",
    ),
    "tool_call_id": (
        CHAT,
        said({"role": "tool", "tool_call_id": 5}),
        400,
        "invalid_value",
        "messages[0].tool_call_id",
        "not a whole number",
    ),
    "n 0": (CHAT, chat(n=0), 400, "invalid_value", "n", "at least 1"),
    "n -1": (CHAT, chat(n=-1), 400, "invalid_value", "n", "at least 1"),
    "n 1e6": (CHAT, chat(n=1_000_000), 400, "invalid_value", "n", "at most 128"),
    "n true": (CHAT, chat(n=True), 400, "invalid_value", "n", "not true or false"),
    "n text": (CHAT, chat(n="2"), 400, "invalid_value", "n", "not a string"),
    "temperature hot": (CHAT, chat(temperature="hot"), 400, "invalid_value", "temperature", "not a string"),
    "temperature 3": (CHAT, chat(temperature=3), 400, "invalid_value", "temperature", "at most 2"),
    "temperature 10^400": (CHAT, chat(temperature=10**400), 400, "invalid_value", "temperature", "range"),
    "top_p 0": (CHAT, chat(top_p=0), 400, "invalid_value", "top_p", "more than 0"),
    "stop with 17": (CHAT, chat(stop=list("abcdefghijklmnopq")), 400, "invalid_value", "stop", "at most 16"),
    "stop 17": (CHAT, chat(stop=17), 400, "invalid_value", "stop", "not a whole number"),
    "max_tokens 0": (CHAT, chat(max_tokens=0), 400, "invalid_value", "max_tokens", "at least 1"),
    "max_tokens 2^63": (CHAT, chat(max_tokens=2**63), 400, "invalid_value", "max_tokens", "at most 2147483647"),
    "max_completion_tokens text": (
        CHAT,
        chat(max_completion_tokens="many"),
        400,
        "invalid_value",
        "max_completion_tokens",
        "not a string",
    ),
    "seed 2^63": (CHAT, chat(seed=2**63), 400, "invalid_value", "seed", "at most 9223372036854775807"),
    "seed 1.5": (CHAT, chat(seed=1.5), 400, "invalid_value", "seed", "not a fraction"),
    "logit_bias list": (CHAT, chat(logit_bias=[1]), 400, "invalid_value", "logit_bias", "not a list"),
    "logit_bias 101": (CHAT, chat(logit_bias={"5": 101}), 400, "invalid_value", "logit_bias[...]", "at most 100"),
    "logprobs 5": (CHAT, chat(logprobs=5), 400, "invalid_value", "logprobs", "not a whole number"),
    "top_logprobs 21": (CHAT, chat(logprobs=True, top_logprobs=21), 400, "invalid_value", "top_logprobs", "at most 20"),
    "top_logprobs alone": (CHAT, chat(top_logprobs=2), 400, "invalid_value", "top_logprobs", "set 'logprobs'"),
    "a result of no call": (
        CHAT,
        chat(messages=[*HI, {"role": "tool", "tool_call_id": "1", "content": "x"}]),
        400,
        "invalid_value",
        "messages[1].tool_call_id",
        "no call before it",
    ),
    "stream text": (CHAT, chat(stream="true"), 400, "invalid_value", "stream", "not a string"),
    "tools object": (CHAT, chat(tools={}), 400, "invalid_value", "tools", "not an object"),
    "response_format text": (
        CHAT,
        chat(response_format="json"),
        400,
        "invalid_value",
        "response_format",
        "not a string",
    ),
    "no prompt": (COMPLETIONS, json.dumps({"model": MODEL}).encode(), 400, "missing_field", "prompt", "missing"),
    "prompt of nothing": (COMPLETIONS, chat(prompt=[]), 400, "invalid_value", "prompt", "at least one"),
    "prompt mixed": (COMPLETIONS, chat(prompt=["a", 1]), 400, "invalid_value", "prompt", "all strings"),
    "prompt of an empty list": (COMPLETIONS, chat(prompt=[[]]), 400, "invalid_value", "prompt[0]", "at least one item"),
    "prompt -1": (COMPLETIONS, chat(prompt=[-1]), 400, "invalid_value", "prompt[0]", "at least 0"),
    "prompt 2^53": (COMPLETIONS, chat(prompt=[2**53]), 400, "invalid_value", "prompt[0]", "2147483647"),
    "unknown model of a completion": (COMPLETIONS, chat(prompt="a", model="x"), 404, "model_not_found", "model", MODEL),
    "no input": (EMBEDDINGS, json.dumps({"model": MODEL}).encode(), 400, "missing_field", "input", "missing"),
    "empty input": (EMBEDDINGS, chat(input=""), 400, "invalid_value", "input", "empty string"),
    "no inputs": (EMBEDDINGS, chat(input=[]), 400, "invalid_value", "input", "at least one item"),
    "too many inputs": (EMBEDDINGS, chat(input=["a"] * 2049), 400, "invalid_value", "input", "2048"),
    "unknown encoding": (
        EMBEDDINGS,
        chat(input="a", encoding_format="xml"),
        400,
        "invalid_value",
        "encoding_format",
        "xml",
    ),
    "unknown model of an embedding": (EMBEDDINGS, chat(input="a", model="x"), 404, "model_not_found", "model", MODEL),
    "explain nothing": ("/v1/cache/explain", b"{}", 400, "missing_field", None, "'messages', 'prompt' or 'input'"),
    "explain garbage": ("/v1/cache/explain", b"{", 400, "invalid_json", None, "not valid JSON"),
}


@pytest.fixture(scope="module")
def parrot(servers: Servers, shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all requests that it must refuse."""
    script: Path = tmp_path_factory.mktemp("script") / "script.toml"
    script.write_text("[[line]]\n")
    tiers = {"database_url": shared_database_url, "redis_url": servers.redis_url}
    with Gateway.serving(script, tiers) as gateway:
        yield gateway


def asking_for_a_stream(body: bytes) -> bytes:
    """The same request, as a stream."""
    return body.replace(b"{", b'{"stream": true, ', 1)


STREAMED = {
    f"{name}, streamed": (path, asking_for_a_stream(body), *rest)
    for name, (path, body, *rest) in BAD.items()
    if body.startswith(b'{"m') and b'"stream"' not in body
}


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param", "words"), (BAD | STREAMED).values(), ids=BAD | STREAMED
)
def test_a_bad_request_is_refused_in_words_that_help(
    parrot: Gateway, path: str, body: bytes, status: int, code: str, param: str | None, words: str
) -> None:
    """At once, as JSON, also when a stream was asked for; nobody asks the backend."""
    before = parrot.backend.calls
    reply = httpx.post(parrot.url + path, content=body, timeout=20)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-askonce-cache"] == "bypass"
    refusal = msgspec.json.decode(reply.content, type=Reply).error
    assert (reply.status_code, refusal.code, refusal.param) == (status, code, param), refusal.message
    assert words in refusal.message
    assert refusal.message.endswith((".", ")"))
    assert len(refusal.message) < 500
    assert refusal.type == "invalid_request_error"
    assert parrot.backend.calls == before


def test_afterwards_it_works_and_has_kept_nothing(parrot: Gateway, shared_database_url: str) -> None:
    """Runs after the refusals of this file."""
    parrot.flushed()
    assert rows(shared_database_url) == 0
    assert httpx.get(parrot.url + "/readyz").status_code == 200
    metrics = httpx.get(parrot.url + "/metrics").text
    assert 'code="internal_error"' not in metrics
    assert "askonce_tier_faults_total{" not in metrics


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "words"),
    [
        ("GET", CHAT, 405, "method_not_allowed", "does not take GET"),
        ("DELETE", CHAT, 405, "method_not_allowed", "does not take DELETE"),
        ("GET", "/v1/nothing", 404, "not_found", "nothing at GET /v1/nothing"),
        ("POST", "/nothing", 404, "not_found", "nothing at POST /nothing"),
        ("POST", "/", 405, "method_not_allowed", "does not take POST"),
        ("GET", "/v1/models/gpt-9", 404, "model_not_found", f"these do: {MODEL}"),
        ("GET", "/v1/models/%00%ff", 404, "model_not_found", MODEL),
    ],
)
def test_a_wrong_address_is_named(parrot: Gateway, method: str, path: str, status: int, code: str, words: str) -> None:
    """In the same envelope."""
    reply = httpx.request(method, parrot.url + path)
    refusal = msgspec.json.decode(reply.content, type=Reply).error
    assert (reply.status_code, refusal.code) == (status, code)
    assert words in refusal.message
    assert reply.headers["x-askonce-cache"] == "bypass"


def test_a_page_of_another_site_is_refused_before_a_look(parrot: Gateway) -> None:
    """The cache is not asked for it either."""
    reply = httpx.get(parrot.url + "/healthz", headers={"host": "gateway.example"})
    assert (reply.status_code, reply.headers["x-askonce-cache"]) == (403, "bypass")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("line", "status"), [("break_after = 0", 502), ("refuse_status = 400", 400), ("refuse_status = 429", 429)]
)
def test_a_question_whose_backend_failed_was_a_miss(
    gateway: Callable[..., Gateway], line: str, status: int, *, stream: bool
) -> None:
    """Whole or streamed: it was looked for, and not there."""
    reply = httpx.post(gateway(f"[[line]]\n{line}\n").url + CHAT, content=chat(stream=stream), timeout=20)
    assert (reply.status_code, reply.headers["x-askonce-cache"]) == (status, "miss")


def raw_request(parrot: Gateway, head: str, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Send a body piece by piece until the server answers; its status and body."""
    with socket.create_connection(("127.0.0.1", parrot.port), timeout=20) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n".encode())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while b"}}" not in said and (piece := connection.recv(65536)):
                said += piece
    status = int(said.split(b" ", 2)[1]) if said else 0
    return status, said.partition(b"\r\n\r\n")[2]


MEGABYTE = b"x" * 2**20


def test_fifty_megabytes_with_a_length_are_refused(parrot: Gateway) -> None:
    """Before they are read."""
    status, body = raw_request(parrot, f"content-length: {50 * 2**20}", iter([b'{"x": "']))
    assert status == 413
    assert b"request_too_large" in body
    assert b"larger than this server takes (33554432 bytes)" in body


def test_fifty_megabytes_without_a_length_are_refused(parrot: Gateway) -> None:
    """A body in chunks is counted as it comes, and not collected beyond the limit."""
    chunk = f"{len(MEGABYTE):x}\r\n".encode() + MEGABYTE + b"\r\n"
    status, body = raw_request(parrot, "transfer-encoding: chunked", iter([chunk] * 50 + [b"0\r\n\r\n"]))
    assert status == 413
    assert b"request_too_large" in body


def test_fifty_megabytes_from_an_ordinary_client_are_refused(parrot: Gateway) -> None:
    """Who sends everything before reading still gets the answer, or sees the connection closed."""
    try:
        reply = httpx.post(parrot.url + CHAT, content=chat(x="x" * (50 * 2**20)), timeout=30)
    except httpx.TransportError:
        return
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "request_too_large"


def test_a_small_limit_is_kept_to_the_byte(gateway: Callable[..., Gateway]) -> None:
    """What fits exactly is answered."""
    body = chat(x="x")
    exact = gateway(max_body_bytes=len(body))
    assert httpx.post(exact.url + CHAT, content=body).status_code == 200
    assert httpx.post(exact.url + CHAT, content=body + b" ").status_code == 413


def test_a_client_who_stops_sending_costs_nothing(parrot: Gateway) -> None:
    """A connection that is closed in the middle of its body is no error of ours."""
    with socket.create_connection(("127.0.0.1", parrot.port)) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{{".encode())
    assert httpx.post(parrot.url + CHAT, content=b"{}").status_code == 400


FINE: dict[str, dict[str, Any]] = {
    "tool role": {
        "messages": [
            *HI,
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "x"},
        ]
    },
    "function role": {"messages": [{"role": "function", "name": "f", "content": "x"}]},
    "developer role": {"messages": [{"role": "developer", "content": "x"}, *HI]},
    "no content": {"messages": [{"role": "assistant", "content": None}]},
    "empty content": {"messages": [{"role": "user", "content": ""}]},
    "no parts": {"messages": [{"role": "user", "content": []}]},
    "unknown part": {"messages": [{"role": "user", "content": [{"type": "smell", "smell": "rose"}]}]},
    "unknown fields": {"": 1, "x": None, "💥": {"": [[[]]]}},
    "unknown field of a message": {"messages": [{"role": "user", "content": "Hi", "x": 1}]},
    "NUL in the prompt": {"messages": [{"role": "user", "content": "a\x00b"}]},
    "NUL in a name": {"a\x00b": "\x00"},
    "all of Unicode's corners": {"messages": [{"role": "user", "content": "\uffff\ufeff\u2028\U0010ffff\u0000\u007f"}]},
    "nulls": {"temperature": None, "n": None, "stop": None, "stream": None, "tools": None, "user": None},
    "2^53 - 1": {"x": 2**53 - 1},
    "seed": {"seed": -(2**63)},
    "100 levels": {"x": json.loads("[" * 99 + "]" * 99)},
    "a long text": {"messages": [{"role": "user", "content": "漢" * 2_000_000}]},
    "a long name": {"x" * 100_000: 1},
}


@pytest.mark.parametrize("fields", FINE.values(), ids=FINE)
def test_what_is_only_odd_is_answered_and_kept(
    gateway: Callable[..., Gateway], database_url: str, fields: dict[str, Any]
) -> None:
    """And the same again is a hit, from Postgres as well."""
    parrot = gateway()
    body = chat(**fields)
    first = httpx.post(parrot.url + CHAT, content=body, timeout=30)
    assert (first.status_code, first.headers["x-askonce-cache"]) == (200, "miss"), first.text[:500]
    parrot.flushed()
    assert rows(database_url) == 1
    second = httpx.post(parrot.url + CHAT, content=body, timeout=30)
    assert second.headers["x-askonce-cache"] == "hit"
    assert second.json()["choices"] == first.json()["choices"]
    assert httpx.get(parrot.url + "/readyz").json()["tiers"] == {"redis": "ok", "postgres": "ok"}


NUL = '[[line]]\nreply = "a\\u0000b \\u0000\\u0000 é漢😀\\u2028\\u0085 end\\u0000"\n'


def test_nul_in_an_answer_is_kept_and_replayed_exactly(gateway: Callable[..., Gateway], database_url: str) -> None:
    """Postgres cannot hold it as text; the answer comes back from there all the same, stream and whole."""
    text = "a\x00b \x00\x00 é漢😀\u2028\x85 end\x00"
    parrot = gateway(NUL)
    first = httpx.post(parrot.url + CHAT, content=chat())
    assert first.json()["choices"][0]["message"]["content"] == text
    parrot.flushed()
    later = gateway(NUL)
    redis_keys_gone(later)
    second = httpx.post(later.url + CHAT, content=chat())
    assert (second.headers["x-askonce-cache"], second.headers["x-askonce-tier"]) == ("hit", "postgres")
    assert second.json()["choices"] == first.json()["choices"]
    with later.client() as client:
        stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)  # type: ignore[arg-type]
        assert "".join(event.choices[0].delta.content or "" for event in stream) == text
    assert later.backend.calls == 0
    assert rows(database_url) == 1


def redis_keys_gone(gateway: Gateway) -> None:
    """Empty Redis, so that only Postgres can answer."""
    tier = next(tier for tier in gateway.parts.tiers._lower if tier.name == "redis")
    gateway.run(tier._tier._client.flushall())


def rows(database_url: str) -> int:
    """How many answers Postgres has."""

    async def count() -> int:
        connection = await asyncpg.connect(database_url)
        try:
            return await connection.fetchval("select count(*) from askonce.completions")
        finally:
            await connection.close()

    return asyncio.run(count())
