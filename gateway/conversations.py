"""Responses that are kept, and the conversations that follow them."""

import asyncio
import re
import time
from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol

import msgspec

from gateway import policy
from gateway.caller import Caller
from gateway.canonical import Request
from gateway.config import PolicyConfig
from gateway.errors import InvalidRequest, NoAnswer, StorageUnavailable
from gateway.pipeline import Answer
from gateway.steering import Steering
from gateway.wire import reply
from gateway.wire.openai_responses import items, output, told
from gateway.wire.openai_responses.asked import Asked
from gateway.wire.openai_responses.items import Item
from storage import entry
from storage.entry import Chunk
from storage.errors import StorageError
from storage.responses import Response

_ID: Final = re.compile(r"resp_[0-9a-f]{32}", re.ASCII)
_ITEM: Final = re.compile(r"[a-z]+_([0-9a-f]{32})_(?:in_)?\d+", re.ASCII)
"""An item's id has its response's in it."""
_LARGE_BYTES: Final = 2**18
_DOWN: Final = "The database cannot be reached, so no response can be looked up or deleted; try again when it is back."


class Kept(Protocol):
    """Where responses are kept."""

    @property
    def epoch(self) -> int:
        """What a response must carry whose answer is looked for from now on."""
        ...

    def put(self, response: Response) -> None:
        """Keep it, soon."""
        ...

    async def get(self, name: str, tenant: str) -> Response | None:
        """A tenant's response."""
        ...

    async def turns(self, name: str, tenant: str) -> list[Response]:
        """A tenant's response and those before it, the last first."""
        ...

    async def delete(self, name: str, tenant: str, models: Collection[str] | None) -> bool:
        """Forget a tenant's response; False when there is none."""
        ...


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A response being made: what is asked, and for whom."""

    asked: Asked
    question: Request
    caller: Caller
    epoch: int
    wanted: bool
    """Whether it is to be kept if its answer may be."""
    tags: tuple[str, ...] = ()


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """A response that was given before."""

    asked: Asked
    head: reply.Head
    chunks: tuple[Chunk, ...]
    key: bytes
    completed_at: int

    def told(self, after: int = -1) -> told.Told:
        """As it was given; of its events only those `after` this number."""
        return told.Told(self.head, self.asked, stored=True, completed_at=self.completed_at, after=after)


class Conversations:
    """Keeps responses, finds them again, and puts what went before in front of what is asked now."""

    def __init__(self, kept: Kept, policies: Sequence[PolicyConfig] = ()) -> None:
        self._kept = kept
        self._policies = policies

    async def question(self, asked: Asked, caller: Caller) -> Request:
        """What the model is asked, with all turns before. Raises `InvalidRequest`, `NoAnswer`, `StorageUnavailable`."""
        turns = await self._turns(asked.previous_id, caller) if asked.previous_id else []
        asked = await self.resolved(asked, caller)
        if asked.size_bytes + sum(turn.size for turn in turns) > _LARGE_BYTES:
            return await asyncio.to_thread(_following, asked, turns)
        return _following(asked, turns)

    async def turn(self, asked: Asked, caller: Caller, steering: Steering) -> Turn:
        """The beginning of a response. Raises as `question` does."""
        epoch = self._kept.epoch
        asked = await self.resolved(asked, caller)
        wanted = asked.stored and not steering.no_store
        return Turn(
            asked=asked,
            question=await self.question(asked, caller),
            caller=caller,
            epoch=epoch,
            wanted=wanted,
            tags=steering.tags,
        )

    async def resolved(self, asked: Asked, caller: Caller) -> Asked:
        """`asked` with the items themselves where it only names them. Raises `InvalidRequest`, `StorageUnavailable`."""
        known: dict[str, Item] = {}
        for name in items.references(asked.items):
            if name not in known and (found := _ITEM.fullmatch(name)):
                known |= await self._items(told.PREFIX + found[1], caller)
            if name not in known:
                break  # what follows is not looked up: this one is refused
        return msgspec.structs.replace(asked, items=items.resolved(asked.items, known))

    def keep(self, turn: Turn, answer: Answer, given: told.Told, chunks: Sequence[Chunk]) -> None:
        """Keep a complete response if it is to be kept at all, and have it say so itself."""
        given.completed_at = int(time.time())
        given.stored = turn.wanted and self._may(turn, answer, chunks)
        if not given.stored:
            return
        request = {"asked": turn.asked.fields, "items": turn.asked.items}
        self._kept.put(
            Response(
                id=given.head.id,
                tenant=turn.caller.tenant,
                scope=answer.query.scope,
                model=answer.query.model,
                key=answer.key,
                prompt_hash=answer.query.prompt_hash,
                tags=tuple(sorted({*turn.tags, *answer.outcome.tags})),
                previous_id=turn.asked.previous_id,
                request=msgspec.json.encode(request).decode(),
                steps=entry.encode_steps(tuple(chunks)),
                provenance=answer.provenance,
                created_at=given.head.created,
                completed_at=given.completed_at,
                epoch=turn.epoch,
                made_by=turn.caller.key_id,
            )
        )

    async def again(self, name: str, caller: Caller) -> Again:
        """A response that was given to this tenant. Raises `NoAnswer` and `StorageUnavailable`."""
        try:
            found = await self._kept.get(name, caller.tenant) if _ID.fullmatch(name) else None
        except StorageError as error:
            raise StorageUnavailable(_DOWN) from error
        if found is None or not _allowed(found, caller):
            raise NoAnswer(_missing(name), param="response_id")
        asked = _asked(found)
        return Again(
            asked=asked,
            head=reply.Head(found.id, int(found.created_at), asked.fields["model"], found.provenance),
            chunks=entry.decode_steps(found.steps),
            key=found.key,
            completed_at=int(found.completed_at),
        )

    async def delete(self, name: str, caller: Caller) -> None:
        """Forget a response of this tenant's. Raises `NoAnswer` and `StorageUnavailable`."""
        try:
            if _ID.fullmatch(name) and await self._kept.delete(name, caller.tenant, caller.models):
                return
        except StorageError as error:
            raise StorageUnavailable(_DOWN) from error
        raise NoAnswer(_missing(name), param="response_id")

    async def _items(self, name: str, caller: Caller) -> dict[str, Item]:
        """The items of a response, by the ids that its client knows them by; none when there is no such response."""
        try:
            found = await self.again(name, caller)
        except NoAnswer:
            return {}
        listed = items.shown(found.asked.items, f"{told.name(name)}_in")
        asked = {one["id"]: item for one, item in zip(listed, found.asked.items, strict=True)}
        return asked | {item["id"]: item for item in output.items(told.name(name), found.chunks)}

    async def _turns(self, name: str, caller: Caller) -> list[Response]:
        param = "previous_response_id"
        try:
            turns = await self._kept.turns(name, caller.tenant) if _ID.fullmatch(name) else []
        except StorageError as error:
            raise StorageUnavailable(_DOWN) from error
        if not turns or not all(_allowed(turn, caller) for turn in turns):
            raise NoAnswer(_missing(name), param=param)
        if (before := turns[-1].previous_id) is not None:
            message = f"The conversation before '{before}' is gone or too long; send the items themselves as 'input'."
            raise InvalidRequest(message, param=param, code="invalid_value")
        return turns

    def _may(self, turn: Turn, answer: Answer, chunks: Sequence[Chunk]) -> bool:
        """Whether such an answer may be kept. Whether it is the one that is makes no difference: it was given."""
        most = policy.of(self._policies, turn.caller.scope, answer.query.model).max_answer_bytes
        return answer.kept and not answer.outcome.foreign and entry.said_bytes(chunks) <= most


def _following(asked: Asked, turns: Sequence[Response]) -> Request:
    earlier = [item for turn in reversed(turns) for item in _said(turn)]
    return asked.question(earlier, sum(turn.size for turn in turns))


def _said(turn: Response) -> list[Item]:
    """What a response was asked and what it said."""
    return [*_asked(turn).items, *output.items(told.name(turn.id), entry.decode_steps(turn.steps))]


def _asked(found: Response) -> Asked:
    request: dict[str, Any] = msgspec.json.decode(found.request)
    return Asked(fields=request["asked"], items=tuple(request["items"]), size_bytes=len(found.request))


def _allowed(found: Response, caller: Caller) -> bool:
    return caller.models is None or found.model in caller.models


def _missing(name: str) -> str:
    shown = name[:60].encode("unicode_escape").decode()
    return f"No response '{shown}' is kept for you: it was never stored, or has been deleted, or its time is over."
