"""A stream of server-sent events in OpenAI's form in, the steps that it tells of out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from gateway.backends import upstream
from gateway.backends.shapes import Count
from gateway.errors import BackendError
from storage.entry import Chunk, Usage

_DONE: Final = b"[DONE]"
_NOTHING: Final = b"null"


class Delta(msgspec.Struct, gc=False):
    """What one event adds to a choice of a chat."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, gc=False):
    """What one event tells of a choice."""

    index: Count = 0
    delta: Delta = msgspec.field(default_factory=Delta)
    text: str | None = None
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    token_ids: tuple[Count, ...] | None = None
    prompt_token_ids: tuple[Count, ...] | None = None


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None


class Counted(msgspec.Struct):
    """A usage as servers write it."""

    prompt_tokens: Count = 0
    completion_tokens: Count | None = 0
    prompt_tokens_details: _Details | None = None

    def counts(self) -> Usage:
        """The same as the gateway writes it."""
        cached = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None
        return Usage(self.prompt_tokens, self.completion_tokens or 0, cached)


class Event(msgspec.Struct, gc=False):
    """One event."""

    choices: list[Choice] = []
    usage: Counted | None = None
    error: Any = None
    prompt_token_ids: tuple[Count, ...] | None = None


Understand = Callable[[Choice, Event], Chunk | None]
"""What a choice of an event says, if it says anything. Raises `BackendError`."""

_decode = msgspec.json.Decoder(Event).decode


class Stream:
    """One reply: what it says, what that cost, and whether it is complete.

    A server that dies leaves an end like any other, even after the last step. So there must be a `[DONE]`, or from a
    server that has none the usage, which is asked for and comes last.

    Lines end at \\n or \\r\\n only: a splitter that also honours U+2028 and its like, as httpx's does, would cut
    answers that contain them.
    """

    def __init__(self, name: str, understand: Understand) -> None:
        """`name` is that of the backend in errors."""
        self._name = name
        self._understand = understand
        self._rest = b""
        self._begun = False
        self._counted = False
        self.usage = Usage()
        self.done = False
        """Whether it has said that it is complete."""

    @property
    def complete(self) -> bool:
        """Whether it is: it has said so, or what it cost."""
        return self.done or self._counted

    def told(self, piece: bytes) -> Iterator[tuple[list[Chunk], BackendError | None]]:
        """What another piece of it says, with the fault that comes after that, if any.

        The first step of all comes alone: a client waits for it, and need not wait until what came with it is read.
        """
        if not self._begun:
            at = 0
            while not self._begun and (end := piece.find(b"\n", at) + 1):
                some, fault = self._steps(piece[at:end])
                self._begun, at = bool(some or fault), end
                yield some, fault
            piece = piece[at:]
        yield self._steps(piece)

    def end(self) -> tuple[list[Chunk], BackendError | None]:
        """What its last line says, should that lack its end."""
        return self._steps(b"\n")

    def _steps(self, piece: bytes) -> tuple[list[Chunk], BackendError | None]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        said: list[Chunk] = []
        try:
            self._hear(self._events([line[5:] for line in lines if line.startswith(b"data:")]), said)
        except BackendError as fault:
            return said, fault
        return said, None

    def _hear(self, events: Iterable[Event], said: list[Chunk]) -> None:
        """Add what `events` say. Nearly all of a stream are one text of one choice each, and nothing else."""
        for event in events:
            if event.error is not None or event.usage is not None:
                self._note(event)
            for choice in event.choices:
                delta = choice.delta
                if (
                    (text := delta.content)
                    and choice.finish_reason is None
                    and choice.logprobs is None
                    and choice.text is None
                    and delta.reasoning_content is None
                    and delta.reasoning is None
                    and delta.refusal is None
                    and delta.tool_calls is None
                    and choice.token_ids is None
                    and choice.prompt_token_ids is None
                    and event.prompt_token_ids is None
                ):
                    said.append(Chunk(choice.index, text))
                elif (step := self._understand(choice, event)) is not None:
                    said.append(step)

    def _events(self, lines: list[bytes]) -> Iterable[Event]:
        """The events in `lines`, all read at once where all are events. Raises `BackendError` at the first that is not,
        once those before it were given.
        """
        if self.done or not lines:
            return ()
        ends = lines[-1].strip() == _DONE
        try:
            events = list(map(_decode, lines[:-1] if ends else lines))
        except upstream.MISREAD:
            return self._one_by_one(lines)
        self.done = ends
        return events

    def _one_by_one(self, lines: Iterable[bytes]) -> Iterator[Event]:
        for line in lines:
            data = line.strip()
            if data == _DONE:
                self.done = True
                return
            if data == _NOTHING:  # llama.cpp's before the answers to several prompts
                continue
            try:
                yield _decode(data)
            except upstream.MISREAD as error:
                message = f"The backend sent an event that is no completion chunk: {data[:120]!r}"
                raise BackendError(message) from error

    def _note(self, event: Event) -> None:
        """Raise what is wrong; note what it cost."""
        if event.error is not None:
            upstream.refuse_midway(self._name, event.error)
        if event.usage is not None:
            self.usage += event.usage.counts()
            self._counted = True
