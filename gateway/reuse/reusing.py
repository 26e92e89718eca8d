"""A question that nothing is kept of in; out comes what is kept of another one that means the same, or nothing."""

import asyncio
import logging
from contextlib import aclosing
from typing import Protocol

from gateway.caller import Caller
from gateway.errors import BackendRefused, RequestError
from gateway.looking import Named, Near
from gateway.reuse.comparing import Comparison
from gateway.reuse.finding import Finder
from gateway.steering import Steering
from storage.entry import Entry
from storage.errors import AskonceError, brief

_LOG = logging.getLogger("askonce")


class Telemetry(Protocol):
    """Who is told what came of it."""

    def semantic(self, tenant: str, model: str, outcome: str) -> None:
        """A question was looked for by its meaning."""
        ...


class Comparer(Protocol):
    """Who writes down what would have been given."""

    def put(self, comparison: Comparison) -> bool:
        """Do that soon; False when there is too much to do."""
        ...


class Reusing:
    """What the pipeline asks when nothing is kept of a question. It never raises, and has a deadline."""

    def __init__(self, finder: Finder, comparer: Comparer, telemetry: Telemetry) -> None:
        self._finder = finder
        self._comparer = comparer
        self._telemetry = telemetry
        self._fault = ""

    async def found(self, named: Named, caller: Caller, steering: Steering) -> Near | None:
        """What may be given in place of an answer. What was deleted, or is too old, is asked for anew."""
        terms = named.terms.near
        if terms is None or terms.mode != "on" or named.looked.stale:
            return None
        try:
            async with asyncio.timeout(terms.deadline_s):
                near, outcome = await self._near(named, caller, steering, terms.threshold)
        except TimeoutError:
            near, outcome = None, "late"
        except (RequestError, BackendRefused):  # its words are no text to embed, or only kept vectors were wanted
            near, outcome = None, "unfit"
        except AskonceError as error:
            near, outcome = None, "failed"
            self._say(brief(error))
        self._telemetry.semantic(caller.tenant, named.query.model, outcome)
        return near

    def compare(self, named: Named, caller: Caller, entry: Entry) -> None:
        """Have it written down what would have been given in place of this answer."""
        put = self._comparer.put(Comparison(named, caller, entry))
        self._telemetry.semantic(caller.tenant, named.query.model, "compared" if put else "dropped")

    async def _near(
        self, named: Named, caller: Caller, steering: Steering, threshold: float
    ) -> tuple[Near | None, str]:
        refused = False
        async with aclosing(self._finder.candidates(named, caller, steering, threshold)) as candidates:
            async for one in candidates:
                if one.passes and (found := await self._finder.still(one, named)) is not None:
                    return Near(found, named.query.key, one.similarity), "served"
                refused = True
        return None, "refused" if refused else "none"

    def _say(self, fault: str) -> None:
        if fault != self._fault:
            _LOG.warning("Nothing is found by its meaning just now: %s", fault)
        self._fault = fault
