"""An answer that the model gave in; what would have been given in its place, and how alike they are, written down."""

import asyncio
import logging
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec

from gateway.caller import Caller
from gateway.indexing.reading import Told
from gateway.looking import Named
from gateway.policy import Nearness
from gateway.reuse.finding import Candidate, Finder
from gateway.steering import Steering
from gateway.wire import reply
from storage.entry import Entry
from storage.errors import AskonceError, brief
from storage.trials import Trial
from storage.vector import cosine

_LOG = logging.getLogger("askonce")
FLOOR: Final = 0.5
"""What is further away is written down as nothing: no threshold would ever be set there."""
_WAITING: Final = 256
_LONGEST_S: Final = 60.0
_WISHES: Final = Steering()


class Comparison(msgspec.Struct, frozen=True):
    """What the model was asked, by whom, and its answer."""

    named: Named
    caller: Caller
    entry: Entry


class Reader(Protocol):
    """Who embeds answers."""

    async def read(self, texts: list[str], scope: str) -> Told:
        """Vectors of some texts."""
        ...


class Trials(Protocol):
    """Where it is written down."""

    async def put(self, trial: Trial) -> None:
        """Keep it."""
        ...


class Comparing:
    """Compares one after the other, in the background, until it is closed; what waits then is forgotten."""

    def __init__(self, finder: Finder, reader: Reader, trials: Trials) -> None:
        self._finder = finder
        self._reader = reader
        self._trials = trials
        self._waiting: asyncio.Queue[Comparison] = asyncio.Queue(_WAITING)
        self._fault = ""
        self._task = asyncio.create_task(self._run(), name="comparing")

    def put(self, comparison: Comparison) -> bool:
        """Compare it soon; False when too many wait."""
        try:
            self._waiting.put_nowait(comparison)
        except asyncio.QueueFull:
            return False
        return True

    async def settled(self) -> None:
        """Wait until nothing waits."""
        await self._waiting.join()

    async def aclose(self) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            comparison = await self._waiting.get()
            try:
                async with asyncio.timeout(_LONGEST_S):
                    await self._compared(comparison)
            except (AskonceError, TimeoutError) as error:
                self._say(brief(error))
            except Exception:  # noqa: BLE001 -- a fault of ours must not end it for good, and the log says what it is
                _LOG.exception("An answer was not compared, by a fault of askonce")
            finally:
                self._waiting.task_done()

    async def _compared(self, comparison: Comparison) -> None:
        named, entry = comparison.named, comparison.entry
        if (terms := named.terms.near) is None:
            return
        trial = Trial(
            tenant=comparison.caller.tenant,
            scope=named.query.scope,
            model=named.query.model,
            key=named.query.key,
            threshold=terms.threshold,
            asked_at=entry.created_at,
        )
        if (chosen := await self._chosen(comparison)) is not None:
            trial = _judged(trial, chosen, terms)
            trial = await self._likened(trial, chosen.found.entry, entry)
        await self._trials.put(trial)
        self._fault = ""

    async def _chosen(self, comparison: Comparison) -> Candidate | None:
        """The nearest that passes, whatever the threshold; where none does, the nearest."""
        first = None
        candidates = self._finder.candidates(comparison.named, comparison.caller, _WISHES, FLOOR)
        async with aclosing(candidates):
            async for one in candidates:
                if one.found.entry.created_at >= comparison.entry.created_at:
                    continue  # it was not there yet
                if one.passes:
                    return one
                first = first or one
        return first

    async def _likened(self, trial: Trial, source: Entry, entry: Entry) -> Trial:
        """How alike the two answers are; how near, only where both have words."""
        same = _said(source) == _said(entry)
        texts = [source.text().strip(), entry.text().strip()]
        near = None
        if same:
            near = 1.0
        elif all(texts):
            reads = (await self._reader.read(texts, trial.scope)).reads
            vectors = [read.vector for read in reads if read is not None]
            near = cosine(*vectors) if len(vectors) == len(texts) else None
        return msgspec.structs.replace(trial, same_answer=same, answers_similarity=near)

    def _say(self, fault: str) -> None:
        if fault != self._fault:
            _LOG.warning("What would have been given by its meaning is not written down just now: %s", fault)
        self._fault = fault


def _judged(trial: Trial, chosen: Candidate, terms: Nearness) -> Trial:
    source = chosen.found.entry
    return msgspec.structs.replace(
        trial,
        source_key=source.query.key,
        similarity=chosen.similarity,
        reasons=chosen.reasons,
        judged_same=chosen.judged is True if chosen.by_model else None,
        served=chosen.passes and chosen.similarity >= terms.threshold,
        source_at=source.created_at,
    )


def _said(entry: Entry) -> list[dict[str, Any]]:
    """What each choice says."""
    steps = [step for step in entry.chunks if step.usage is None]
    return [reply.message(said) for _, said in reply.by_choice(steps)]
