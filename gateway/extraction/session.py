"""One run, from its first chunk to its end, however it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec

from gateway.errors import BackendError, RequestError, envelope
from gateway.extraction import counting
from gateway.extraction.going import Done, Journey
from gateway.extraction.keeping import Keeper, Keeping
from gateway.extraction.told import Told, is_end, is_over
from storage.extracted import Call, Ended, Outcome


class Session:
    """A run, under way."""

    def __init__(
        self,
        begun: Told,
        journey: Journey,
        heed: Callable[[Done], None],
        keeping: Keeping | None,
        done: Sequence[Call] = (),
    ) -> None:
        """`heed` is called with what came of each chunk. `keeping` is None where nothing is to be kept. `done` are the
        calls of chunks that need not be asked about.
        """
        self.run = begun.run
        self.document = begun.document
        self.chunks = begun.chunks
        self.calls = list(done)
        """Every call of every chunk that is done."""
        self.fault: BackendError | RequestError | None = None
        """Why nothing was extracted at all."""
        self.stored = False
        """Whether all of it is kept: to be asked at the end."""
        self._journey = journey
        self._heed = heed
        self._keeping = keeping
        self._ending: asyncio.Future[None] | None = None
        self._is_wanted = True
        self._when_left: Ended = "cancelled"
        self._faults: list[BackendError | RequestError] = []

    @property
    def told(self) -> Told:
        """It, as clients are told of it."""
        is_kept = self.stored if is_over(self.run) else self._keeping is not None
        return Told(self.run, self.document, self.chunks, stored=is_kept)

    async def go(self) -> AsyncGenerator[Done]:
        """What comes of each chunk that is not done yet. Afterwards `run` says how it ended.

        Whoever closes it, or cancels who waits for it, cancels the run. What is done by then is kept.
        """
        keeper = Keeper(self._keeping, self.run, self._unwanted) if self._keeping else None
        status: Ended = "failed"
        done = {call.chunk for call in self.calls}
        journey = self._journey.go([chunk for chunk in self.chunks if chunk.index not in done])
        try:
            async for one in journey:
                self.calls += one.calls
                self._faults += [one.fault] if one.fault else []
                if keeper:
                    keeper.put(one.calls)
                self._heed(one)
                yield one
            status = self._outcome()
        except RequestError as error:
            self.fault = error
        except (asyncio.CancelledError, GeneratorExit):
            status = self._when_left
            raise
        finally:
            try:
                await journey.aclose()
            finally:
                self._ending = asyncio.ensure_future(self._end(status, keeper))
                await asyncio.shield(self._ending)  # whoever leaves does not take this with him

    def interrupt(self) -> None:
        """Whoever ends it now does not mean it: it can be resumed as one that is not complete."""
        self._when_left = "incomplete"

    def _unwanted(self) -> None:
        self._is_wanted = False
        self._journey.stop()

    def _outcome(self) -> Ended:
        if not self._is_wanted:
            return "cancelled"
        answered = {call.chunk for call in self.calls if call.chosen and call.status != "failed"}
        failed = {call.chunk for call in self.calls if call.chosen and call.status == "failed"}
        if failed and not answered:
            self.fault = self._faults[0] if self._faults else None
            return "failed"
        return "incomplete" if failed or len(answered) < len(self.chunks) else "completed"

    async def _end(self, status: Ended, keeper: Keeper | None) -> None:
        counts = counting.counts(self.calls, len(self.chunks))
        error: dict[str, Any] | None = envelope(self.fault)["error"] if self.fault else None
        ended_at = time.time()
        if keeper:
            await keeper.close(Outcome(status, counts, error, ended_at))
            self.stored = keeper.is_whole
            status = kept if is_end(kept := keeper.status) else status
        self.run = msgspec.structs.replace(
            self.run,
            status=status,
            counts=counts,
            error=error,
            ended_at=ended_at,
            chunks_done=counts["chunks_done"],
        )
