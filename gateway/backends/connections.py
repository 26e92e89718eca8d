"""aiohttp's connections, without the work that aiohttp does once more for each chunk of a reply."""

import asyncio
from functools import partial
from typing import TypeVar

import aiohttp
from aiohttp.client_proto import ResponseHandler

ConnectorT = TypeVar("ConnectorT", bound=aiohttp.BaseConnector)


class Connection(ResponseHandler):
    """One connection. aiohttp 3.14 resumes it, and parses nothing once more, with every chunk that is read: with a step
    in each chunk that is a third of what a reply costs. Only one that was paused has to be resumed.
    """

    __slots__ = ()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 -- aiohttp's own signature
        """Read on, if reading was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)


def quick(connector: ConnectorT) -> ConnectorT:
    """`connector`, which makes such connections from now on."""
    made = partial(Connection, loop=asyncio.get_running_loop())
    connector._factory = made  # type: ignore[reportPrivateUsage] -- there is no other way to say it
    return connector
