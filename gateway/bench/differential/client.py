"""A shot -> the reply a client gets, taken apart into steps, and checked against what the oracle says of it."""

import base64
import random
import time
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import msgspec

from gateway.bench.differential import answers, meaning, writing
from gateway.bench.differential.answers import Said, Step, Wants
from gateway.bench.differential.plan import NAMESPACE, SHARED, Shot
from storage.vector import unpacked

PATHS: Final = {
    meaning.CHAT: "/v1/chat/completions",
    meaning.COMPLETION: "/v1/completions",
    meaning.EMBEDDING: "/v1/embeddings",
}


class Reply(msgspec.Struct, kw_only=True):
    """What came back. Times are seconds since the epoch."""

    shot: Shot
    weights: str
    began: float
    ended: float = 0.0
    status: int = 0
    """0 when there was none, or it broke off."""
    fault: str = ""
    headers: dict[str, str] = {}
    id: str = ""
    steps: tuple[Step, ...] = ()
    """Of a stream, as they came; of a whole reply, one for each choice."""
    vectors: list[list[float]] = []
    serial: int | None = None
    """The number of the oracle's call, where the reply has a usage."""
    usage: tuple[int, int] | None = None

    @property
    def complete(self) -> bool:
        """Whether it is an answer, to its end."""
        return self.status == 200 and not self.fault and not self.shot.leaves

    @property
    def cache(self) -> str:
        """What the gateway says it did."""
        return self.headers.get("x-askonce-cache", "")

    @property
    def reused(self) -> bool:
        """Whether the gateway says that the model was not asked."""
        return self.cache in ("hit", "coalesced")


def request(shot: Shot, keys: dict[str, list[str]], seed: int) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of `shot`: the same for the same seed, but for the keys themselves."""
    chance = random.Random(f"{seed}/{shot.number}")
    body = body_of(shot)
    body["model"] = shot.place.model + (":latest" if shot.latest else "")
    if shot.stream or chance.random() < 0.3:
        body["stream"] = shot.stream
    if shot.include_usage:
        body["stream_options"] = {"include_usage": True}
    if shot.kind == meaning.EMBEDDING:
        body.pop("stream", None)
    headers = {"content-type": "application/json", **access(shot, keys, chance)}
    if shot.control:
        headers["cache-control"] = shot.control
    if shot.tags:
        headers["x-askonce-tags"] = ", ".join(shot.tags)
    return PATHS[shot.kind], writing.written(shot.kind, body, shot.habits, chance), headers


def access(shot: Shot, keys: dict[str, list[str]], chance: random.Random) -> dict[str, str]:
    """One of the tenant's keys, and the namespace if it is asked in one."""
    key = chance.choice(keys[shot.tenant])
    shown = {"x-api-key": key} if chance.random() < 0.3 else {"authorization": f"Bearer {key}"}
    return shown | ({"x-askonce-namespace": NAMESPACE} if shot.place.scope == SHARED else {})


def body_of(shot: Shot) -> dict[str, Any]:
    """What is asked, written plainly."""
    if len(shot.asked) == 1:
        return shot.asked[0].body()
    return {"input": [asked.body()["input"] for asked in shot.asked]}


async def sent(
    session: aiohttp.ClientSession, url: str, content: tuple[str, bytes, dict[str, str]], shot: Shot, weights: str
) -> Reply:
    """Ask, and hear the reply to its end, unless the shot leaves."""
    path, body, headers = content
    reply = Reply(shot=shot, weights=weights, began=time.time())
    try:
        async with session.post(url + path, data=body, headers=headers) as response:
            reply.headers = {name.lower(): value for name, value in response.headers.items()}
            if shot.leaves:
                _read_stream(reply, await response.content.readuntil(b"\n\n"))
                response.close()
            else:
                _read(reply, response.status, await response.read())
            reply.status = response.status
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reply.fault = reply.fault or repr(error)
    reply.ended = time.time()
    return reply


def mistake(reply: Reply) -> str:
    """What is wrong with a complete reply, in a few words; empty when it is what the oracle says."""
    shot = reply.shot
    if shot.kind == meaning.EMBEDDING:
        expected = [
            answers.vector(digest, asked.body())
            for digest, asked in zip(digests(shot, reply.weights), shot.asked, strict=True)
        ]
        return "" if reply.vectors == expected else "other vectors"
    said = answers.answer(digests(shot, reply.weights)[0], Wants.of(shot.kind, body_of(shot)))
    if shot.stream:
        if reply.steps != said.steps:
            return "other steps"
    elif reply.steps != _folded(said, shot):
        return "another text, call, end or choice"
    return "" if reply.usage in (None, (said.prompt_tokens, said.completion_tokens)) else "another usage"


def digests(shot: Shot, weights: str) -> list[bytes]:
    """What decides the answer to each of its questions."""
    return [meaning.digest(shot.kind, shot.place.model, weights, asked.body()) for asked in shot.asked]


def _folded(said: Said, shot: Shot) -> tuple[Step, ...]:
    choices = Wants.of(shot.kind, body_of(shot)).choices
    return tuple(answers.folded(said.steps, index) for index in range(choices))


def _read(reply: Reply, status: int, content: bytes) -> None:
    if status != 200:
        reply.fault = content[:300].decode(errors="replace")
    elif reply.shot.stream:
        _read_stream(reply, content)
        if not content.endswith(b"data: [DONE]\n\n"):
            reply.fault = reply.fault or "the stream broke off"
        elif reply.shot.include_usage != (reply.usage is not None):
            reply.fault = "the usage is missing, or was not asked for"
    else:
        _read_whole(reply, msgspec.json.decode(content))


def _read_stream(reply: Reply, content: bytes) -> None:
    steps: list[Step] = []
    for event in content.split(b"\n\n"):
        data = event.removeprefix(b"data: ")
        if not data or data == b"[DONE]":
            continue
        said = msgspec.json.decode(data)
        if "error" in said:
            reply.fault = str(said["error"]["message"])
            break
        reply.id = said["id"]
        if said.get("usage"):
            _read_usage(reply, said["usage"])
        steps += [_step(choice) for choice in said["choices"] if not _opens(choice)]
    reply.steps = tuple(steps)


def _opens(choice: dict[str, Any]) -> bool:
    return "role" in choice.get("delta", ())


def _step(choice: dict[str, Any]) -> Step:
    delta: dict[str, Any] = choice.get("delta") or choice.get("message") or {}
    return Step(
        index=choice["index"],
        content=choice.get("text") or delta.get("content") or "",
        reasoning=delta.get("reasoning_content") or "",
        refusal=delta.get("refusal") or "",
        tool_calls=tuple(delta.get("tool_calls") or ()),
        logprobs=choice.get("logprobs"),
        finish_reason=choice.get("finish_reason"),
    )


def _read_whole(reply: Reply, said: dict[str, Any]) -> None:
    if reply.shot.kind == meaning.EMBEDDING:
        reply.vectors = [_vector(one["embedding"]) for one in sorted(said["data"], key=lambda one: one["index"])]
        return
    reply.id = said["id"]
    _read_usage(reply, said["usage"])
    reply.steps = tuple(_step(choice) for choice in said["choices"])


def _read_usage(reply: Reply, usage: dict[str, Any]) -> None:
    reply.usage = usage["prompt_tokens"], usage["completion_tokens"]
    reply.serial = usage.get("prompt_tokens_details", {}).get("cached_tokens")


def _vector(value: str | Sequence[float]) -> list[float]:
    return unpacked(base64.b64decode(value)) if isinstance(value, str) else list(value)
