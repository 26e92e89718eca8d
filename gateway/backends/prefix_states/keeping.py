"""Long prompts and where llama.cpp answered them come in; what to restore before, and to save after, goes out."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import cachetools
import msgspec

from gateway.backends.prefix_states.chain import Chain, common
from gateway.backends.prefix_states.slots import Slot, Slots
from gateway.backends.prefix_states.store import Found, Store
from gateway.errors import BackendError, BackendRefused

_LOG = logging.getLogger("askonce")

LEAST_BLOCKS: Final = 2
"""Shorter beginnings are computed about as fast as they are read."""
_REMEMBERED: Final = 16384
_WORTH: Final = 1.5
"""How much more than the best state holds must have come twice before another is saved: a growing chat is not saved at
each of its turns."""
_RESTORE_S: Final = 10.0
_SAVE_S: Final = 60.0
_IDLE_WITHIN_S: Final = 30.0
_LOOK_S: Final = 0.1
_SPARE_BYTES: Final = 64 * 2**20
_SURPLUS_TOKENS: Final = 2
"""The last token of an answer, and one that ended it, are not in the slot."""
_VAIN_MAX: Final = 3


class Told(msgspec.Struct, frozen=True):
    """What llama.cpp said of an answer."""

    slot: int
    prompt_tokens: int
    total_tokens: int
    cached_tokens: int


class Claim(msgspec.Struct, frozen=True):
    """The slot that a request will find the beginning of its prompt in, and the state that was put there for it."""

    slot: int
    restored: Found | None = None


class PrefixStates:
    """Decides for one server, whose socket or process `epoch` tells apart from the ones before it.

    It knows what other workers do from the folder alone; where it is wrong, a prompt is computed that need not be.
    """

    def __init__(self, store: Store, slots: Slots, folder: Path, epoch: Callable[[], object]) -> None:
        self._store = store
        self._slots = slots
        self._folder = folder
        self._epoch_now = epoch
        self._epoch: object = None
        self._seen: cachetools.LRUCache[bytes, bool] = cachetools.LRUCache(_REMEMBERED)
        self._held: dict[int, Chain] = {}
        self._claimed: list[int] = []
        self._restoring = asyncio.Lock()
        self._saving: asyncio.Task[None] | None = None
        self._token_bytes = 0.0
        self._vain = 0
        self._tidied = False

    async def prepare(self, chain: Chain) -> Claim | None:
        """Before a prompt is asked: restore the state that holds most of it, unless an idle slot holds as much.

        That slot is claimed until `release`. Never raises a `BackendError`: without a state the prompt is computed.
        """
        if self._vain >= _VAIN_MAX:
            return None
        async with self._restoring:
            await self._look_again()
            found = self._store.best(chain)
            if found is None or found.depth < LEAST_BLOCKS:
                return None
            with suppress(BackendError, OSError):  # time-outs are such errors, too
                async with asyncio.timeout(_RESTORE_S):
                    claim = await self._found(found, chain)
                    if claim is not None:
                        self._claimed.append(claim.slot)
                    return claim
        return None

    def release(self, claim: Claim) -> None:
        """The request has ended."""
        self._claimed.remove(claim.slot)

    def answered(self, chain: Chain, told: Told, restored: Found | None) -> None:
        """After an answer: learn where the prompt is, and save the slot if its beginning has come before."""
        shared = next((i for i in range(len(chain), 0, -1) if chain[i - 1] in self._seen), 0)
        self._seen.update(dict.fromkeys(chain, True))
        self._held[told.slot] = chain
        self._judge(chain, told, restored)
        if shared < LEAST_BLOCKS or self._vain >= _VAIN_MAX or (self._saving and not self._saving.done()):
            return
        best = self._store.best(chain)
        if best is None or shared >= _WORTH * best.depth:
            self._saving = asyncio.create_task(self._save(chain, shared, told))

    async def settled(self) -> None:
        """Return once nothing is being saved."""
        if self._saving is not None:
            await asyncio.wait([self._saving])

    async def aclose(self) -> None:
        """Save nothing more."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait([self._saving])

    def _judge(self, chain: Chain, told: Told, restored: Found | None) -> None:
        """Some models cannot go on from the middle of a state; then states are of no use to them."""
        if restored is None:
            return
        expected = told.prompt_tokens * restored.depth / len(chain)
        self._vain = self._vain + 1 if told.cached_tokens < expected / 2 else 0
        if self._vain >= _VAIN_MAX:
            _LOG.warning("Saved states of long prompts are of no use to this model: none are saved or restored.")

    async def _look_again(self) -> None:
        """Know the server that is there now, and the folder as it is now."""
        epoch = self._epoch_now()
        if epoch != self._epoch:
            self._epoch = epoch
            self._held.clear()
        with suppress(OSError):
            if not self._tidied:
                self._tidied = True
                await asyncio.to_thread(self._store.tidy)
            if self._store.changed():
                await asyncio.to_thread(self._store.read)

    async def _found(self, found: Found, chain: Chain) -> Claim | None:
        """An idle slot that holds as much as a state, if need be because that was restored."""
        slots = await self._slots.all()
        idle = [slot for slot in slots if not slot.is_processing and slot.id not in self._claimed]
        for slot in idle:
            if common(self._held.get(slot.id, ()), chain) >= found.depth:
                return Claim(slot.id)
        return await self._restored(found, chain, min(idle, key=self._use)) if idle else None

    async def _restored(self, found: Found, chain: Chain, slot: Slot) -> Claim | None:
        if not await asyncio.to_thread(self._store.intact, found):
            await asyncio.to_thread(self._store.drop, found)
            return None
        self._held.pop(slot.id, None)
        try:
            await self._slots.restore(slot.id, found.file)
        except BackendRefused:
            await asyncio.to_thread(self._store.drop, found)
            return None
        self._held[slot.id] = chain[: found.depth]
        return Claim(slot.id, found)

    def _use(self, slot: Slot) -> tuple[bool, int]:
        """A slot of which nothing is known goes first, then the one whose last task is the oldest."""
        return slot.id in self._held, slot.id_task

    async def _save(self, chain: Chain, shared: int, told: Told) -> None:
        """Save a slot, while it still holds the prompt and nobody waits for the server."""
        name = self._store.name(chain[shared - 1])
        try:
            async with asyncio.timeout(_SAVE_S):
                if await self._idle(chain, told.slot) and self._has_room(told):
                    tokens = await self._slots.save(told.slot, self._store.part(name))
                    await asyncio.to_thread(self._keep, name, chain, shared, tokens, told)
        except (BackendError, OSError) as failed:
            _LOG.warning("What was computed of a long prompt could not be saved: %s", failed)
        finally:
            with suppress(OSError):
                self._store.forget(name)

    async def _idle(self, chain: Chain, slot: int) -> bool:
        """Whether a moment came in which no slot was busy, and this one still held the prompt."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _IDLE_WITHIN_S
        while loop.time() < until_s:
            if self._held.get(slot) != chain or self._epoch_now() != self._epoch:
                return False
            if not any(each.is_processing for each in await self._slots.all()):
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    def _has_room(self, told: Told) -> bool:
        expected_bytes = int(self._token_bytes * told.total_tokens)
        free_bytes = shutil.disk_usage(self._folder).free
        return expected_bytes <= self._store.max_bytes and expected_bytes + _SPARE_BYTES <= free_bytes

    def _keep(self, name: str, chain: Chain, shared: int, tokens: int, told: Told) -> None:
        size_bytes = (self._folder / self._store.part(name)).stat().st_size
        self._token_bytes = size_bytes / max(1, tokens)
        # Another prompt may have taken the slot in the last moment; then this is its state.
        same = 0 <= told.total_tokens - tokens <= _SURPLUS_TOKENS
        if same and size_bytes <= self._store.max_bytes:
            self._store.keep(name, chain, shared, tokens)
