"""Asking backends how they are, without waiting for one that hangs."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from gateway.errors import BackendError

PROBE_S = 2.0
_LOG = logging.getLogger("askonce")

T = TypeVar("T")


async def probed(question: Awaitable[T]) -> T | str:
    """The answer, or in a sentence why there is none."""
    try:
        async with asyncio.timeout(PROBE_S):
            return await question
    except BackendError as error:
        return str(error)
    except TimeoutError:
        return f"The backend did not answer within {PROBE_S:g} s."
    except Exception:  # noqa: BLE001 -- one backend that surprises us must not hide the others
        _LOG.exception("A backend could not be asked how it is")
        return "The backend could not be asked; the log has the details."
