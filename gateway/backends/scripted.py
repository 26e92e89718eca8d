"""A backend that answers from a script: known answers, delays and faults, for tests and demonstrations."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from gateway.canonical import Description, Identity, Request, Vector
from gateway.config import ConfigError
from gateway.errors import BackendError, BackendRefused
from storage.entry import Chunk, Usage
from storage.vector import packed

_WORDS = re.compile(r"\s*\S+|\s+$")


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the script: when the prompt's last text matches `when`, this is the answer."""

    when: str = ".*"
    """A regular expression, searched for."""
    reply: str = "You said: {prompt}"
    finish_reason: str = "stop"
    first_delay_s: float = 0.0
    step_delay_s: float = 0.0
    refuse_status: int = 0
    """Answer with this HTTP status instead."""
    break_after: int | None = None
    """Fail after this many steps."""


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole script: the first line that matches answers."""

    line: tuple[Line, ...] = (Line(),)
    version: str = "1"
    dimensions: int = 8
    near: bool = False
    """Whether texts that share words have vectors near to each other."""


def read(path: Path | None) -> Script:
    """The script in a TOML file, or the default one. Raises `ConfigError`."""
    if path is None:
        return Script()
    try:
        script = msgspec.toml.decode(path.read_bytes(), type=Script)
        for line in script.line:
            re.compile(line.when)
    except OSError as error:
        message = f"The `script` {path} cannot be read: {error.strerror}."
        raise ConfigError(message) from error
    except (ValueError, re.error) as error:
        message = f"The `script` {path} cannot be used: {error}."
        raise ConfigError(message) from error
    return script


class Scripted:
    """Answers from `script`, word by word. `calls` counts what was really asked."""

    def __init__(self, name: str, script: Script | None = None) -> None:
        self.name = name
        self.calls = 0
        self._script = script or Script()

    @property
    def known(self) -> Identity:
        """The script's version stands for the weights."""
        return Identity("scripted", "1", self._script.version)

    def certain(self) -> bool:
        """A script stays the same."""
        return True

    def doubted(self) -> bool:
        """It does."""
        return False

    async def identity(self) -> Identity:
        """Who answers."""
        return self.known

    async def renew(self) -> Identity:
        """The same."""
        return self.known

    async def confirms(self, identity: Identity) -> bool:
        """Whether that is this script."""
        return identity == self.known

    async def ping(self) -> None:
        """A script can always be asked."""

    async def described(self) -> Description:
        """A script says lines, and embeds."""
        return Description(capabilities=("completion", "embedding"))

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        """Say the line that matches, once for each choice."""
        self.calls += 1
        prompt = _last_text(request)
        line = next((line for line in self._script.line if re.search(line.when, prompt, re.DOTALL)), Line())
        if line.refuse_status:
            message = f"The script refuses this with {line.refuse_status}."
            raise BackendRefused(message, status=line.refuse_status)
        await asyncio.sleep(line.first_delay_s)
        words = _WORDS.findall(line.reply.replace("{prompt}", prompt))
        kept = words[: request.params.get("max_tokens") or len(words)]
        finish = line.finish_reason if len(kept) == len(words) else "length"
        for index in range(request.choices):
            async with aclosing(_said(kept, line, index)) as steps:
                async for step in steps:
                    yield step
            yield Chunk(index=index, finish_reason=finish, token_ids=())
        yield Chunk(usage=Usage(len(prompt.split()), len(kept) * request.choices))

    async def embed(self, requests: Sequence[Request]) -> list[Vector]:
        """Equal inputs get equal vectors of unit length, others different ones, if they have other words at least."""
        self.calls += 1
        return [self._vector(str(request.prompt["input"])) for request in requests]

    async def aclose(self) -> None:
        """Nothing to close."""

    def _vector(self, text: str) -> Vector:
        words = re.findall(r"\w+", text.casefold()) if self._script.near else []
        seeds = [hashlib.shake_256(word.encode()).digest(self._script.dimensions) for word in words or [text]]
        values = [sum(byte - 127.5 for byte in bytes_) for bytes_ in zip(*seeds, strict=True)]
        length = sum(value * value for value in values) ** 0.5
        return Vector(packed([value / length for value in values]), len(text.split()))


async def _said(words: Sequence[str], line: Line, index: int) -> AsyncGenerator[Chunk]:
    for place, word in enumerate(words):
        if line.break_after is not None and place >= line.break_after:
            message = f"The script breaks off after {place} steps."
            raise BackendError(message)
        await asyncio.sleep(line.step_delay_s)
        yield Chunk(index=index, content=word, token_ids=(place,))


def _last_text(request: Request) -> str:
    value: Any = request.prompt.get("messages", request.prompt.get("prompt", ""))
    if isinstance(value, list) and value:
        last: Any = value[-1]
        value = last.get("content") if isinstance(last, dict) else last
    if isinstance(value, list):
        value = "".join(part.get("text") or "" for part in value if isinstance(part, dict))
    return str(value or "")
